//! A connection that goes back to its pool only in order.

use sea_orm::sqlx;
use sea_orm::sqlx::pool::PoolConnection;

/// A connection that is closed when it is dropped, unless it was given back.
///
/// Whoever gives up in the middle of a statement leaves a connection on which an answer is still to come, and perhaps
/// an open transaction. The drivers would put it back into the pool and wait for the answer there, which takes a place
/// of the pool for as long as the server hangs. A closed connection makes the server roll back.
pub(crate) struct Held<DB: sqlx::Database> {
    connection: Option<PoolConnection<DB>>,
}

impl<DB: sqlx::Database> Held<DB> {
    pub(crate) async fn of(pool: &sqlx::Pool<DB>) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: Some(pool.acquire().await?) })
    }

    /// Closes the connections of a pool that nobody uses now.
    pub(crate) fn close_idle(pool: &sqlx::Pool<DB>) {
        for _ in 0..pool.num_idle() {
            let Some(connection) = pool.try_acquire() else { return };
            drop(Self { connection: Some(connection) });
        }
    }

    pub(crate) fn get(&mut self) -> Result<&mut DB::Connection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Back to the pool: nothing is open on it and no answer is to come. One whose session has `ended` is closed.
    pub(crate) fn give_back_unless(mut self, ended: bool) {
        if !ended {
            self.connection.take();
        }
    }
}

impl<DB: sqlx::Database> Drop for Held<DB> {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}
