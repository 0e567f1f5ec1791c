//! What can go wrong, as an answer.

use std::error::Error as StdError;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use write_behind::sql::sea_orm::DbErr;
use write_behind::{BufferErrorKind, CacheError, ErrorKind};

pub(crate) enum Failure {
    /// What was sent is not allowed, and why.
    BadInput(String),
    /// There is no such thing.
    NotFound(&'static str),
    /// Somebody has made a thing with this key already.
    Exists(&'static str),
    /// The path has no such method.
    Method,
    Cache(CacheError),
    Database(DbErr),
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, body) = self.answer();
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, 1.into());
        }
        response
    }
}

impl Failure {
    fn answer(self) -> (StatusCode, Value) {
        match self {
            Self::BadInput(text) => (StatusCode::BAD_REQUEST, json!({ "error": text })),
            Self::NotFound(what) => (StatusCode::NOT_FOUND, json!({ "error": format!("no such {what}") })),
            Self::Exists(what) => (StatusCode::CONFLICT, json!({ "error": format!("there is such {what} already") })),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, json!({ "error": "no such method here" })),
            Self::Cache(CacheError::Conflict { stored, offered, .. }) => {
                let text = "somebody else was faster; read it again";
                (StatusCode::CONFLICT, json!({ "error": text, "stored": stored, "offered": offered }))
            }
            Self::Cache(error) => {
                let status = status(&error);
                if !status.is_server_error() {
                    return (status, json!({ "error": chain(&error) }));
                }
                // What is inside is not for strangers, but for the log.
                tracing::error!(error = chain(&error), "request failed");
                let text = match error {
                    CacheError::Buffer(error) => format!("the buffer failed: {}", error.kind()),
                    error => error.to_string(),
                };
                (status, json!({ "error": text }))
            }
            Self::Database(error) => {
                tracing::error!(error = chain(&error), "request failed");
                (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "the database does not answer" }))
            }
        }
    }
}

/// Whose fault it is.
fn status(error: &CacheError) -> StatusCode {
    match error {
        CacheError::Key(_) | CacheError::Empty { .. } | CacheError::Overflow { .. } => StatusCode::BAD_REQUEST,
        CacheError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        CacheError::Absent { .. } => StatusCode::NOT_FOUND,
        CacheError::Conflict { .. } => StatusCode::CONFLICT,
        CacheError::Buffer(error) if error.kind() == BufferErrorKind::Misconfigured => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        CacheError::Sink { source } if source.kind() == ErrorKind::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
        CacheError::Codec { .. } | CacheError::KeyChanged { .. } | CacheError::DeadLettered { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        // Redis or the database is away, full, or too busy for now: the same request may succeed later.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An error and its sources in one line.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let sources = std::iter::successors(error.source(), |&error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
