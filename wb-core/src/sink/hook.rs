//! The hook between the buffer and the sink: a row may be rewritten or skipped on its way.

use std::any::Any;
use std::any::TypeId;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::ConfigError;

/// What becomes of a row on its way to the sink; see [`EngineBuilder::before_flush`](crate::EngineBuilder::before_flush).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BeforeFlush<T> {
    /// This is written.
    Write(T),
    /// Nothing is written: the sink keeps the row that it has, or none. The record counts as flushed.
    Skip,
}

type Transform<T> = dyn Fn(T) -> BeforeFlush<T> + Send + Sync;

/// The hook of one entity.
pub(crate) struct Hook<T: Entity>(Arc<Transform<T>>);

impl<T: Entity> Clone for Hook<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Kind of the dead letters that a hook makes.
pub(crate) const HOOK: &str = "hook";

impl<T: Entity> Hook<T> {
    /// What is to be written under `id`; `None`: nothing. An error says why the record can be no row.
    pub(crate) fn run(&self, id: &Id, value: T) -> Result<Option<T>, &'static str> {
        let run = || match (self.0)(value) {
            BeforeFlush::Skip => Ok(None),
            // Another row than readers, deletes and later writes of this id mean.
            BeforeFlush::Write(value) if Id::of(&value.key()).ok().as_ref() != Some(id) => {
                Err("the before_flush hook gives the record another key")
            }
            BeforeFlush::Write(value) => Ok(Some(value)),
        };
        std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err("the before_flush hook panics on this record"))
    }
}

/// The hooks that a builder was given.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Vec<Given>);

#[derive(Clone)]
struct Given {
    entity: &'static str,
    ty: TypeId,
    hook: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|given| given.entity)).finish()
    }
}

impl Hooks {
    pub(crate) fn add<T: Entity>(&mut self, hook: impl Fn(T) -> BeforeFlush<T> + Send + Sync + 'static) {
        let hook = Arc::new(Hook::<T>(Arc::new(hook)));
        self.0.push(Given { entity: T::NAME, ty: TypeId::of::<T>(), hook });
    }

    /// The hook of `T`.
    pub(crate) fn of<T: Entity>(&self) -> Option<Hook<T>> {
        let given = self.0.iter().find(|given| given.ty == TypeId::of::<T>())?;
        given.hook.downcast_ref::<Hook<T>>().cloned()
    }

    /// Each hook has its entity, and no entity has two.
    pub(crate) fn check(&self, entities: &[TypeId]) -> Result<(), ConfigError> {
        for (place, given) in self.0.iter().enumerate() {
            let wrong = |what: &'static str| Err(ConfigError::Hook { entity: given.entity, what });
            if !entities.contains(&given.ty) {
                return wrong("the engine is not given this entity");
            }
            if self.0.iter().take(place).any(|before| before.ty == given.ty) {
                return wrong("it is given twice");
            }
        }
        Ok(())
    }
}
