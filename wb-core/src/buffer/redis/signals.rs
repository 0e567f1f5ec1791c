//! Signals between processes, by publish and subscribe: one connection a buffer, for all its entities.
//!
//! It reconnects by itself, also when a ping is not answered, and when the connection of the requests is replaced: they may
//! lead to another server now. While it is away nudges are missed (the interval comes all the same), and what is kept
//! beside the buffer is not served. Nothing else is polled.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use redis::aio::PubSubSink;
use redis::{Cmd, Msg, RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::classify::classify;
use super::connection::{Connection, Server};
use super::keys;
use crate::buffer::flush_trigger::Pressure;
use crate::buffer::{NearCopies, Registration};
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::telemetry::log;
use crate::telemetry::scope::Scope;

/// Shortest and longest wait before connecting again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Time between two pings of a subscription, and how long an answer may take. Together: how long what is kept beside the
/// buffer may be served although nothing is heard, because the socket has gone silent.
const PING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// One entity's ear.
#[derive(Debug)]
pub(super) struct Listener {
    nudges: Option<(String, Arc<Pressure>)>,
    near: Option<(String, Arc<dyn NearCopies>)>,
    /// Whether it was tried to listen.
    tried: watch::Sender<bool>,
}

impl Listener {
    pub(super) fn new(scope: &Scope, registration: &Registration) -> Self {
        let ear = &registration.ear;
        Self {
            nudges: ear.nudges.then(|| (keys::nudges(scope), registration.pressure.clone())),
            near: ear.near.clone().map(|near| (keys::written(scope), near)),
            tried: watch::channel(false).0,
        }
    }

    async fn subscribe(&self, sink: &mut PubSubSink) -> RedisResult<()> {
        if let Some((channel, _)) = &self.nudges {
            sink.subscribe(channel).await?;
        }
        if let Some((channel, near)) = &self.near {
            sink.subscribe(channel).await?;
            near.hears();
        }
        self.tried.send_replace(true);
        Ok(())
    }

    fn is_deaf(&self) {
        if let Some((_, near)) = &self.near {
            near.is_deaf();
        }
        self.tried.send_replace(true);
    }

    fn hear(&self, message: &Msg) {
        let channel: Result<String, _> = message.get_channel();
        let Ok(channel) = channel else { return };
        match (&self.nudges, &self.near) {
            (Some((nudges, pressure)), _) if *nudges == channel => pressure.nudge(),
            (_, Some((written, near))) if *written == channel => {
                let read = ids(message.get_payload_bytes(), |id| near.forget(&id));
                if read.is_none() {
                    // Another program's: whatever it means, nothing that is kept can be trusted.
                    near.is_deaf();
                    near.hears();
                }
            }
            _ => {}
        }
    }
}

type Ears = Vec<Arc<Listener>>;

/// Where signals come from.
#[derive(Clone, Debug)]
struct Source {
    server: Server,
    timeout: Duration,
    /// The connection of the requests: a subscription never outlives it.
    requests: Connection,
}

/// Who listens, and the task that hears for them; it starts with the first one.
#[derive(Debug)]
pub(super) struct Signals {
    source: Source,
    /// The task ends when this is gone.
    ears: Mutex<Option<watch::Sender<Ears>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Signals {
    pub(super) fn new(server: Server, timeout: Duration, requests: Connection) -> Self {
        let source = Source { server, timeout, requests };
        Self { source, ears: Mutex::new(Some(watch::channel(Ears::new()).0)), task: Mutex::default() }
    }

    /// Listens from now on, until the end; returns after the first try, whether it hears then or not.
    pub(super) async fn listen(&self, listener: Listener) {
        let mut tried = listener.tried.subscribe();
        if !self.add(listener) {
            return;
        }
        // Its sender is among the ears.
        let _ = tried.wait_for(|tried| *tried).await.is_ok();
    }

    fn add(&self, listener: Listener) -> bool {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ears) = &*ears else { return false };
        ears.send_modify(|ears| ears.push(Arc::new(listener)));
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.get_or_insert_with(|| tokio::spawn(run(self.source.clone(), ears.subscribe())));
        true
    }

    pub(super) async fn close(&self) {
        drop(self.ears.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It holds nothing that a panic could break.
            let _ = task.await;
        }
    }
}

/// Waits until nobody listens any more.
async fn over(mut ears: watch::Receiver<Ears>) {
    while ears.changed().await.is_ok() {}
}

/// The task: hears until the end, and connects again when the connection breaks.
async fn run(source: Source, mut ears: watch::Receiver<Ears>) {
    let mut pause = PAUSE.0;
    let mut told = false;
    loop {
        let mut heard = false;
        let broken = tokio::select! {
            biased;
            () = over(ears.clone()) => None,
            broken = hear(&source, &mut ears, &mut heard) => Some(broken),
        };
        ears.borrow().iter().for_each(|listener| listener.is_deaf());
        let Some(error) = broken else { return };
        if heard {
            (pause, told) = (PAUSE.0, false);
        }
        if !told {
            log::signals_lost(&error);
            told = true;
        }
        // Processes that lost the same server do not come back in step.
        let wait = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        tokio::select! {
            biased;
            () = over(ears.clone()) => return,
            () = tokio::time::sleep(wait) => {}
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Connects, subscribes and hears until the connection breaks.
async fn hear(source: &Source, ears: &mut watch::Receiver<Ears>, heard: &mut bool) -> BufferError {
    let Source { server, timeout, requests } = source;
    let timeout = *timeout;
    let failed = |error| classify("cannot listen to other processes", error);
    let unavailable = |context: String| BufferError::new(BufferErrorKind::Unavailable, context);
    let late = || unavailable(format!("no subscription within {timeout:?}"));
    let generation = match requests.current().await {
        Ok(current) => current.generation(),
        Err(error) => return failed(error),
    };
    let pubsub = match tokio::time::timeout(timeout, server.client.get_async_pubsub()).await {
        Ok(Ok(pubsub)) => pubsub,
        Ok(Err(error)) => return failed(server.told(error)),
        Err(_) => return late(),
    };
    let (mut sink, mut messages) = pubsub.split();
    let mut listening = 0;
    loop {
        let all = ears.borrow_and_update().clone();
        for listener in all.iter().skip(listening) {
            match tokio::time::timeout(timeout, listener.subscribe(&mut sink)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return failed(error),
                Err(_) => return late(),
            }
        }
        listening = all.len();
        if !std::mem::replace(heard, true) {
            log::signals_heard();
        }
        let mut alive = std::pin::pin!(ping(&mut sink));
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => all.iter().for_each(|listener| listener.hear(&message)),
                    None => return unavailable("the subscription has ended".to_owned()),
                },
                answer = &mut alive => return match answer {
                    Some(error) => failed(error),
                    None => unavailable(format!("the subscription does not answer within {:?}", PING.1)),
                },
                () = requests.replaced(generation) => return unavailable("requests go to another connection".to_owned()),
                // Its end is looked after by the caller.
                Ok(()) = ears.changed() => break,
            }
        }
    }
}

/// Asks again and again whether the subscription is alive; returns when it is not: what was answered, if anything.
async fn ping(sink: &mut PubSubSink) -> Option<RedisError> {
    loop {
        tokio::time::sleep(PING.0).await;
        // A cluster proxy that does not know the command in this mode answers too.
        match tokio::time::timeout(PING.1, sink.ping::<Value>()).await {
            Ok(Err(error)) if error.is_io_error() => return Some(error),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Says that these ids were written: the length of each in four bytes, highest first, then its text.
pub(super) fn tell<'i>(channel: &str, ids: impl Iterator<Item = &'i Id>) -> Cmd {
    let mut message = Vec::new();
    for id in ids {
        // No id is longer: a record has at most 64 MiB.
        message.extend_from_slice(&u32::try_from(id.as_bytes().len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend_from_slice(id.as_bytes());
    }
    let mut command = redis::cmd("PUBLISH");
    command.arg(channel).arg(message);
    command
}

/// Reads what [`tell`] writes; `None` for anything else.
fn ids(message: &[u8], mut each: impl FnMut(Id)) -> Option<()> {
    let mut rest = message;
    while !rest.is_empty() {
        let (length, text) = rest.split_first_chunk::<4>()?;
        let (id, next) = text.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        each(Id::found(Bytes::copy_from_slice(id)));
        rest = next;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_were_told() {
        let told: Vec<Id> = [b"42".as_slice(), b"\0\xff", &[b'k'; 70_000]]
            .into_iter()
            .map(|id| Id::found(Bytes::copy_from_slice(id)))
            .collect();
        let command = tell("channel", told.iter());
        let message = command.args_iter().nth(2);
        let Some(redis::Arg::Simple(message)) = message else { panic!("no message") };
        let mut read = Vec::new();
        assert_eq!(ids(message, |id| read.push(id)), Some(()));
        assert_eq!(read, told);
        for other in [b"\0".as_slice(), b"\0\0\0\x05abc", b"hello world"] {
            assert_eq!(ids(other, drop), None, "{other:?}");
        }
    }
}
