//! Without the driver of any database there is no connection to write through. These types have no values.

use sea_orm::{DatabaseConnection, DbBackend, QueryResult};
use wb_core::{ErrorKind, SinkError};

use crate::connection::session::Limits;
use crate::statement::bind::Statement;

#[derive(Clone)]
pub(crate) enum Pool {}

pub(crate) enum Tx {}

fn absent() -> SinkError {
    SinkError::new(ErrorKind::Misconfigured, "switch one of the features `postgres`, `mysql` and `sqlite` on")
}

pub(crate) fn backend(_: &DatabaseConnection) -> Result<DbBackend, SinkError> {
    Err(absent())
}

impl Pool {
    pub(crate) fn of(_: &DatabaseConnection, _: Limits) -> Result<Self, SinkError> {
        Err(absent())
    }

    pub(crate) const fn within(self, _: std::time::Duration) -> Self {
        self
    }

    pub(crate) const fn place(&self) -> usize {
        match *self {}
    }

    /// By reference: a value would make what comes after it unreachable.
    pub(crate) const fn patient(&self) -> &Self {
        self
    }

    pub(crate) async fn reach(&self, _: &str) -> Result<(), SinkError> {
        match *self {}
    }

    pub(crate) const fn connections(&self) -> u32 {
        match *self {}
    }

    pub(crate) const fn backend(&self) -> DbBackend {
        match *self {}
    }

    pub(crate) async fn begin(&self, _: &str, _: &str) -> Result<(Tx, Vec<QueryResult>), SinkError> {
        match *self {}
    }

    pub(crate) async fn fetch(&self, _: &str, _: Statement) -> Result<Vec<QueryResult>, SinkError> {
        match *self {}
    }

    pub(crate) async fn run(&self, _: &str, _: String) -> Result<(), SinkError> {
        match *self {}
    }
}

impl Tx {
    pub(crate) async fn execute(&mut self, _: &str, _: Statement) -> Result<u64, SinkError> {
        match *self {}
    }

    pub(crate) async fn fetch(&mut self, _: &str, _: Statement) -> Result<Vec<QueryResult>, SinkError> {
        match *self {}
    }

    pub(crate) async fn run(&mut self, _: &str, _: String) -> Result<Vec<QueryResult>, SinkError> {
        match *self {}
    }

    pub(crate) async fn commit(self) -> Result<(), SinkError> {
        match self {}
    }

    pub(crate) async fn rollback(self) {
        match self {}
    }
}
