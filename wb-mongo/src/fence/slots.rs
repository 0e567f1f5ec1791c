//! Which slot of its fences, and which session, a batch uses: those that no other batch of this process has now.
//!
//! A slot has one session for as long as the sink lives. So a new owner can be told which session may hold a slot (see
//! [`crate::fence`]), and what an earlier transaction left open on the server, because its connection was cut, is ended
//! by the next one: the server lets a session have one transaction only.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::Document;
use mongodb::error::{Error, Result};
use mongodb::{Client, ClientSession};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use wb_core::Scope;

use crate::fence::SLOTS;

/// How long a transaction that failed is rolled back for, while its slot is not free; the next one of its session ends
/// it too.
const ROLL_BACK: Duration = Duration::from_secs(10);

/// The free slots of every entity.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    entities: Mutex<HashMap<(String, &'static str), Entity>>,
}

/// Absent until its sessions are there.
type Entity = Arc<OnceCell<Arc<Free>>>;

/// The free slots of one entity. First those whose last transaction may be open on the server: the next one ends it,
/// and then the rows that it holds are free. The others in turn.
#[derive(Debug)]
struct Free {
    places: Mutex<VecDeque<Place>>,
    count: Arc<Semaphore>,
    /// The ids of the sessions, by number of their slot.
    sessions: Vec<Document>,
}

impl Free {
    async fn new(client: &Client) -> Result<Self> {
        let mut places = VecDeque::new();
        let mut sessions = Vec::new();
        for number in 0..SLOTS {
            // What an earlier transaction saw is nothing that a later one of the same session waits for.
            let session = client.start_session().causal_consistency(false).await?;
            sessions.push(session.id().clone());
            places.push_back(Place { number, session, last: Last::Ended });
        }
        let count = Arc::new(Semaphore::new(places.len()));
        Ok(Self { places: Mutex::new(places), count, sessions })
    }

    fn places(&self) -> MutexGuard<'_, VecDeque<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot's number and session.
#[derive(Debug)]
struct Place {
    number: u8,
    session: ClientSession,
    last: Last,
}

/// What is known of a session's last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Ended,
    /// Begun, and neither committed nor rolled back.
    Open,
    /// Rolled back by this side; the server may not have heard of it.
    Doubtful,
}

/// A slot that is in use until it is dropped. Dropped while its transaction is open, it is rolled back first.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Absent only while this is dropped.
    place: Option<Place>,
    /// Whether it is rolled back now, because it was dropped.
    ending: bool,
    free: Arc<Free>,
    /// Given back after the place, so that who comes in finds one.
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// Takes a slot; waits for one when all are in use. Does no IO.
    pub(crate) async fn take(&self, client: &Client, scope: &Scope) -> Result<Slot> {
        let free = self.of(client, scope).await?;
        // Fails only when closed, which it never is.
        let permit = free.count.clone().acquire_owned().await.map_err(Error::custom)?;
        let place = free.places().pop_front();
        Ok(Slot { place, ending: false, free, permit: Some(permit) })
    }

    /// The ids of the sessions that batches of an entity use, by number of their slot.
    pub(crate) async fn sessions(&self, client: &Client, scope: &Scope) -> Result<Vec<Document>> {
        Ok(self.of(client, scope).await?.sessions.clone())
    }

    async fn of(&self, client: &Client, scope: &Scope) -> Result<Arc<Free>> {
        let cell = {
            let mut entities = self.entities.lock().unwrap_or_else(PoisonError::into_inner);
            entities.entry((scope.namespace.clone(), scope.entity)).or_default().clone()
        };
        let free = cell.get_or_try_init(|| async { Free::new(client).await.map(Arc::new) }).await?;
        Ok(free.clone())
    }
}

impl Slot {
    /// Its number; `None` never, unless it is dropped.
    pub(crate) fn number(&self) -> Option<u8> {
        self.place.as_ref().map(|place| place.number)
    }

    /// The session, for commands of its transaction.
    pub(crate) fn session(&mut self) -> Result<&mut ClientSession> {
        self.place.as_mut().map(|place| &mut place.session).ok_or_else(|| Error::custom("the slot has no session"))
    }

    /// To be said before a transaction begins. Ends the last one, should the driver still count it as open.
    pub(crate) async fn begin(&mut self) {
        self.end().await;
        self.set(Last::Open);
    }

    /// The transaction was committed.
    pub(crate) fn committed(&mut self) {
        self.set(Last::Ended);
    }

    /// Rolls back what is open. The driver does not ask for the server's opinion: a transaction that is gone is rolled
    /// back, and one that nobody knows whether it was committed is left alone.
    pub(crate) async fn end(&mut self) {
        let Some(place) = self.place.as_mut().filter(|place| place.last == Last::Open) else { return };
        let _ = tokio::time::timeout(ROLL_BACK, place.session.abort_transaction()).await;
        place.last = Last::Doubtful;
    }

    fn set(&mut self, last: Last) {
        if let Some(place) = &mut self.place {
            place.last = last;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        if place.last == Last::Open && !self.ending {
            // Outside of a runtime nothing can be sent; the next transaction of the session does it.
            if let Ok(runtime) = Handle::try_current() {
                let (free, permit) = (self.free.clone(), self.permit.take());
                let mut slot = Self { place: Some(place), ending: true, free, permit };
                runtime.spawn(async move { slot.end().await });
                return;
            }
        }
        let mut places = self.free.places();
        if place.last == Last::Ended { places.push_back(place) } else { places.push_front(place) }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Nothing is sent: it need not be there.
    async fn client() -> Client {
        Client::with_uri_str("mongodb://127.0.0.1:1/?directConnection=true").await.unwrap()
    }

    #[tokio::test]
    async fn no_two_batches_of_an_entity_have_the_same_slot() {
        let (slots, client) = (Slots::default(), client().await);
        let (posts, users) = (Scope::new("blog", "post", 16), Scope::new("blog", "user", 16));
        let mut taken = Vec::new();
        for _ in 0..SLOTS {
            taken.push(slots.take(&client, &posts).await.unwrap());
        }
        let mut numbers: Vec<u8> = taken.iter().filter_map(Slot::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..SLOTS).collect::<Vec<_>>());

        // One more waits; another entity's does not.
        assert!(slots.take(&client, &posts).now_or_never().is_none());
        drop(slots.take(&client, &users).await.unwrap());
        let freed = taken.swap_remove(3).number();
        assert_eq!(slots.take(&client, &posts).await.unwrap().number(), freed);
    }

    #[tokio::test]
    async fn a_slot_has_a_session_of_its_own_for_ever() {
        let (slots, client) = (Slots::default(), client().await);
        let posts = Scope::new("blog", "post", 16);
        let known = slots.sessions(&client, &posts).await.unwrap();
        let users = slots.sessions(&client, &Scope::new("blog", "user", 16)).await.unwrap();
        let distinct: std::collections::HashSet<_> = known.iter().chain(&users).map(ToString::to_string).collect();
        assert_eq!(distinct.len(), 2 * usize::from(SLOTS));
        for round in 0..=SLOTS {
            let mut slot = slots.take(&client, &posts).await.unwrap();
            assert_eq!(slot.number(), Some(round % SLOTS), "in turn");
            assert_eq!(slot.session().unwrap().id(), &known[usize::from(round % SLOTS)]);
        }
    }

    #[tokio::test]
    async fn a_slot_whose_transaction_may_be_open_comes_first() {
        let (slots, client) = (Slots::default(), client().await);
        let posts = Scope::new("blog", "post", 16);
        drop(slots.take(&client, &posts).await.unwrap());
        let mut failed = slots.take(&client, &posts).await.unwrap();
        failed.begin().await;
        let number = failed.number();
        drop(failed);
        for _ in 0..3 {
            // It is rolled back in a task.
            tokio::task::yield_now().await;
        }
        let mut again = slots.take(&client, &posts).await.unwrap();
        assert_eq!(again.number(), number);
        again.begin().await;
        again.committed();
        drop(again);
        assert_eq!(slots.take(&client, &posts).await.unwrap().number(), Some(2));
    }
}
