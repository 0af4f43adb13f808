"""What is done and looked at, in order. Each story says in its first line what holds."""

from stories import (
    authority, beginning, capture, changes, exposure, faults, forgery, gitops, least, nonsense, trespass, upgrades,
)

STORIES = [
    beginning.install, beginning.join, beginning.bookinfo, beginning.exported, beginning.trace,
    capture.captured, changes.failover, changes.rolling, changes.components, changes.replicas,
    faults.machines, faults.links, faults.unheard,
    nonsense.wrong, nonsense.judged, nonsense.flooded, nonsense.wide, forgery.forged, trespass.strangers,
    least.least, gitops.undrifted, upgrades.upgrade, exposure.exposure, authority.authority,
]
END = beginning.uninstall
