//! Documents: from the runtime of a store, or else from the store at rest.

use std::path::Path;

use semper::control::{Connection, ControlError, Reply, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::failure::code;

/// Asks the runtime of `store`, or reads `at_rest` if there is none; the document, and its JSON.
pub fn document<T: Serialize + DeserializeOwned>(
    store: &Path,
    request: &Request,
    at_rest: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, String), Failure> {
    match Connection::open(store).and_then(|connection| connection.ask(request)) {
        Ok(Reply::Document { json }) => match serde_json::from_str(&json) {
            Ok(document) => Ok((document, json)),
            Err(error) => {
                let shown = store.display();
                let told = format!("the runtime of {shown} is of another version: {error}; use its own semper");
                Err(Failure::new(code::FAILED, told))
            }
        },
        Ok(other) => Err(Failure::control(store, ControlError::Unexpected(Box::new(other)))),
        Err(ControlError::NotRunning) => {
            let document = at_rest()?;
            let json = serde_json::to_string(&document)
                .map_err(|error| Failure::new(code::FAILED, format!("the answer is no JSON: {error}")))?;
            Ok((document, json))
        }
        Err(error) => Err(Failure::control(store, error)),
    }
}
