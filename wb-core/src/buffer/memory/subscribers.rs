//! Engines of this process that listen to an entity.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::buffer::flush_trigger::Pressure;
use crate::buffer::{Ear, Registration};
use crate::entity::key::Id;

#[derive(Debug)]
pub(crate) struct Listener {
    ear: Ear,
    pressure: Arc<Pressure>,
}

/// All of them. They listen for as long as somebody holds them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ears {
    all: Arc<Mutex<Vec<Weak<Listener>>>>,
    /// Whether anybody has ever kept values: where not, writes pass by.
    kept: Arc<AtomicBool>,
}

impl Ears {
    pub(crate) fn listen(&self, registration: &Registration) -> Arc<Listener> {
        let listener = Arc::new(Listener { ear: registration.ear.clone(), pressure: registration.pressure.clone() });
        if listener.ear.listens() {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|other| other.strong_count() > 0);
            all.push(Arc::downgrade(&listener));
        }
        if let Some(near) = &listener.ear.near {
            self.kept.store(true, Ordering::Release);
            near.hears();
        }
        listener
    }

    /// Not under the lock: what is told may take its time.
    fn listening(&self) -> Vec<Arc<Listener>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn nudge(&self) {
        for listener in self.listening().iter().filter(|listener| listener.ear.nudges) {
            listener.pressure.nudge();
        }
    }

    pub(crate) fn anybody_keeps(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    pub(crate) fn written(&self, ids: &[Id]) {
        if !self.anybody_keeps() {
            return;
        }
        for near in self.listening().iter().filter_map(|listener| listener.ear.near.as_ref()) {
            ids.iter().for_each(|id| near.forget(id));
        }
    }
}
