"""What is done and looked at, in order. Each story says in its first line what holds."""

from stories import beginning, capture, changes, forgery, gitops, least, nonsense, trespass, upgrades

STORIES = [
    beginning.install, beginning.join, beginning.bookinfo, beginning.exported, beginning.trace,
    capture.captured, changes.failover, changes.rolling, changes.components, changes.faults, changes.replicas,
    nonsense.wrong, nonsense.flooded, nonsense.wide, forgery.forged, trespass.strangers,
    least.least, gitops.undrifted, upgrades.upgrade,
]
END = beginning.uninstall
