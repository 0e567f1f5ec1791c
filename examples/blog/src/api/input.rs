//! What clients send: refused as JSON, and before anything is stored.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::failure::Failure;

/// The JSON body of a request.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Failure::BadInput(rejection.body_text())),
        }
    }
}

/// The key in the path of a request.
pub(crate) struct Key(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(key)) => Ok(Self(key)),
            Err(rejection) => Err(Failure::BadInput(rejection.body_text())),
        }
    }
}

/// A text that people read: not blank, at most `most` characters, and without NUL, which PostgreSQL cannot hold.
pub(crate) fn text(field: &str, value: String, most: usize) -> Result<String, Failure> {
    if value.trim().is_empty() {
        return Err(Failure::BadInput(format!("`{field}` is empty")));
    }
    if value.chars().count() > most {
        return Err(Failure::BadInput(format!("`{field}` has more than {most} characters")));
    }
    if value.contains('\0') {
        return Err(Failure::BadInput(format!("`{field}` has a NUL character")));
    }
    Ok(value)
}
