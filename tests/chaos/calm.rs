//! The end of a storm: every fault is gone, and those who are left must go on.

use std::time::{Duration, Instant};

use crate::place::{held, redis};
use crate::role::Role;
use crate::storm::{NAMESPACE, Storm};

/// How long those who are left may take for a thing when every fault is gone.
const CALM: Duration = Duration::from_secs(60);

impl Storm {
    /// Every fault ends: those who are left go on by themselves, and flush everything. What did not.
    pub(crate) async fn calm(&mut self) -> Vec<String> {
        let mut stuck = Vec::new();
        // Later than anything was put off.
        let far = Instant::now() + Duration::from_secs(60);
        self.catch_up(far).await;
        self.end_deploys();
        let until = Instant::now() + CALM;
        while self.are_deploying() && Instant::now() < until {
            self.tick(far).await;
        }
        if self.are_deploying() {
            stuck.push(format!("a deploy: {:?}", self.deploys));
        }
        let before: Vec<u64> = self.writers.iter().map(Role::acknowledged).collect();
        let idle = |storm: &Self| -> Vec<String> {
            let writers = storm.writers.iter().zip(&before);
            let idle = writers.filter(|(writer, before)| writer.acknowledged() <= **before);
            idle.map(|(writer, _)| format!("{}: nothing is acknowledged", writer.name)).collect()
        };
        let until = Instant::now() + CALM;
        while !idle(self).is_empty() && Instant::now() < until {
            self.tick(far).await;
        }
        stuck.extend(idle(self));
        for one in 0..self.writers.len() {
            // The one that flushes too goes on flushing where it can, as a worker would.
            self.writers[one].actor.kill();
        }
        let mut redis = redis(&self.redis.url()).await;
        let until = Instant::now() + CALM;
        loop {
            self.catch_up(far).await;
            self.look_for_stopped();
            let dirty = held(&mut redis, NAMESPACE).await;
            match dirty {
                Some(held) if held.dirty == 0 => break,
                held if Instant::now() > until => {
                    stuck.push(format!("still dirty: {:?}", held.map(|held| held.places)));
                    break;
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        self.workers.iter_mut().for_each(|worker| worker.actor.kill());
        stuck
    }
}
