//! What the desk is told, and by whom it is asked.

use crate::{clients::Role, decider::Way, handle::Message, registry::Registered};

use super::Desk;

impl Desk {
    /// Takes a message.
    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Sources(sources) => {
                self.sources = Some(sources);
                self.settle();
            }
            Message::Resolved(resolved) => {
                self.resolved = resolved;
                self.settle();
            }
            Message::Roots(roots) => {
                self.configured.roots = roots;
                self.settle();
            }
            Message::World(world) => {
                if self.world.as_ref() != Some(&world) {
                    self.rekey(&world);
                    self.world = Some(world);
                    self.look_at_verbs();
                    self.changed();
                }
            }
            Message::Lease(lease) => self.lease(&lease, Way::Member),
            Message::OwnLease(lease) => self.own_lease(&lease),
            Message::Federation(standing) => {
                self.federation = standing;
                self.settle_verbs();
            }
            Message::Speaker(view) => {
                self.speaker = view;
                self.settle_verbs();
                self.tell_deeds();
            }
            Message::Memory(memory) => self.remember_all(memory),
            Message::Deeds(deeds) => self.adopt(*deeds),
            Message::Remember(reply) => {
                let _ = reply.send(self.memory());
            }
            Message::Look(reply) => {
                let _ = reply.send(self.view());
            }
            Message::Do(wish, reply) => {
                let _ = reply.send(self.wish(wish));
            }
            Message::TakeBack(name, back, reply) => {
                let _ = reply.send(self.take_back(&name, back));
            }
            Message::Written(name, reply) => {
                self.waiting.push((name, reply));
                self.settle_verbs();
            }
            Message::Simulate(down, reply) => {
                let _ = reply.send(self.simulate(&down));
            }
            client => self.client(client),
        }
    }

    fn client(&mut self, message: Message) {
        match message {
            Message::Opened { stream, role, name, identity } => {
                self.metrics.clients.inc();
                if role == Role::Gateway {
                    self.gateways.insert(stream, name.clone());
                }
                self.clients.opened(stream, role, &name, identity);
            }
            Message::Sent { stream, nonce, version, keys } => self.clients.sent(stream, nonce, version, keys),
            Message::Answered { stream, nonce, refusals } => {
                self.metrics.nacks.inc_by(refusals.len() as u64);
                self.clients.answered(stream, nonce, refusals);
            }
            Message::Register { stream, registered, reply } => {
                let _ = reply.send(self.register(stream, *registered));
            }
            Message::RegistrationRefused { stream, reason } => {
                self.metrics.registrations_refused.inc();
                self.clients.registered(stream, "", Some(reason));
            }
            Message::Report { stream, role, report } => self.report(stream, role, report),
            Message::Closed { stream } => self.closed(stream),
            _ => {}
        }
    }

    fn register(&mut self, stream: u64, registered: Registered) -> Result<(), String> {
        let zone = registered.locality.zone.clone();
        let taken = self.registry.register(stream, registered).map_err(|refused| refused.to_string());
        if taken.is_err() {
            self.metrics.registrations_refused.inc();
        }
        self.clients.registered(stream, &zone, taken.clone().err());
        self.changed();
        taken
    }

    fn closed(&mut self, stream: u64) {
        let now = self.now();
        self.metrics.clients.dec();
        self.registry.lost(stream, now);
        self.clients.closed(stream, now);
        if let Some(gateway) = self.gateways.remove(&stream)
            && !self.gateways.values().any(|other| *other == gateway)
        {
            self.decider.gateway_lost(&gateway);
        }
    }
}
