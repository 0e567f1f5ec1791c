//! The near cache of a build without it: keeps nothing.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::buffer::NearCopies;
use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::near_cache::{Figures, Ticket, Value};
use crate::options::EntityOptions;

pub(crate) struct Near<E>(PhantomData<fn() -> E>);

/// A write under way.
pub(crate) struct Writing;

impl<E: Entity> Near<E> {
    pub(crate) const fn new(_: &EntityOptions) -> Self {
        Self(PhantomData)
    }

    pub(crate) fn listener(&self) -> Option<Arc<dyn NearCopies>> {
        None
    }

    pub(crate) const fn get(&self, _: &Id) -> Option<Arc<Value<E>>> {
        None
    }

    pub(crate) const fn ticket(&self, _: &Id) -> Option<Ticket> {
        None
    }

    pub(crate) fn keep(&self, _: Option<Ticket>, _: &Id, _: &Record, _: Option<Option<Arc<E>>>) {}

    pub(crate) fn writing<'i>(&self, _: impl IntoIterator<Item = &'i Id>) -> Writing {
        Writing
    }

    pub(crate) const fn drop_all(&self) {}

    pub(crate) fn figures(&self) -> Figures {
        Figures::default()
    }
}
