//! [`Wire`]: how a value crosses from node to node.
//!
//! One version byte, then bincode with a limit and nothing after it. Decoding cannot fail in ractor's trait, so a
//! `Wire` holds a `Result` and whoever opens it meets the error. Between actors of one node nothing is encoded at all.

use ractor::BytesConvertable;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest encoded message: larger ones stall every other call on the same session.
pub const MAX_BYTES: usize = 256 * 1024;

/// The first byte of every encoded message.
const VERSION: u8 = 1;

/// Why a message from another node cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It was written by a newer build.
    #[error("wire version {0} is not spoken here (this node speaks {VERSION})")]
    Version(u8),
    /// It is not what it should be.
    #[error("not decodable: {0}")]
    Malformed(String),
}

/// A value that may cross nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Wire<T>(Result<T, WireError>);

impl<T> Wire<T> {
    /// Wraps a value to send.
    pub const fn new(value: T) -> Self {
        Self(Ok(value))
    }

    /// The answer to a message that cannot be read: whoever opens it meets an error too. For when the message alone would
    /// tell what to answer.
    #[must_use]
    pub const fn unreadable(error: WireError) -> Self {
        Self(Err(error))
    }

    /// The value, or why what arrived cannot be read.
    ///
    /// # Errors
    /// [`WireError`], only for messages from other nodes.
    pub fn open(self) -> Result<T, WireError> {
        self.0
    }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_BYTES>()
}

impl<T: Serialize + DeserializeOwned + Send + 'static> BytesConvertable for Wire<T> {
    fn into_bytes(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        // An unencodable value becomes a message that the receiver refuses by name: the trait has no error to give.
        match self
            .0
            .map(|value| bincode::serde::encode_into_std_write(&value, &mut bytes, config()))
        {
            Ok(Ok(_)) if bytes.len() <= MAX_BYTES => bytes,
            _ => vec![VERSION],
        }
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(decode(&bytes))
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let malformed = |reason: &str| WireError::Malformed(reason.to_owned());
    match bytes.split_first() {
        None => Err(malformed("it is empty")),
        Some((&VERSION, [])) => Err(malformed("its sender could not encode it")),
        Some((&VERSION, body)) if body.len() > MAX_BYTES => {
            Err(malformed("it is larger than 256 KiB"))
        }
        Some((&VERSION, body)) => {
            let (value, read) = bincode::serde::decode_from_slice(body, config())
                .map_err(|e| malformed(&e.to_string()))?;
            if read == body.len() {
                Ok(value)
            } else {
                Err(malformed("bytes follow its end"))
            }
        }
        Some((&version, _)) => Err(WireError::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use amcp_protocol::{AgentCard, Capability, CapabilityName, Grant, TaskId, TaskRequest};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn task() -> TaskRequest {
        TaskRequest {
            version: 1,
            request_id: "123e4567-e89b-12d3-a456-426614174999".parse().unwrap(),
            task_id: TaskId::new("t1").unwrap(),
            attempt: 2,
            deadline_ms: 1_500,
            traceparent: None,
            grant: Arc::new(Grant {
                user: Some("alice".into()),
                roles: vec!["finance".into()],
            }),
            capability: CapabilityName::new("weather.get").unwrap(),
            params: json!({"city": "Paris", "deep": [{"x": 1.5}]}),
        }
    }

    fn round_trip<T: Serialize + DeserializeOwned + Send + 'static>(
        value: T,
    ) -> Result<T, WireError> {
        Wire::from_bytes(Wire::new(value).into_bytes()).open()
    }

    #[test]
    fn tasks_and_cards_cross_whole() {
        assert_eq!(round_trip(task()).unwrap(), task());
        let card = AgentCard::new(
            "w-1",
            "Weather.",
            vec![Capability::new("weather.get", "The weather.")],
        );
        assert_eq!(round_trip(card.clone()).unwrap(), card);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_not_a_panic() {
        let bytes = Wire::new(task()).into_bytes();
        let read = |bytes: Vec<u8>| Wire::<TaskRequest>::from_bytes(bytes).open();
        assert!(matches!(read(vec![]), Err(WireError::Malformed(_))));
        assert!(matches!(
            read([&[2], &bytes[1..]].concat()),
            Err(WireError::Version(2))
        ));
        assert!(matches!(
            read([&bytes[..], &[0]].concat()),
            Err(WireError::Malformed(_))
        ));
        assert!(matches!(
            read(bytes[..bytes.len() - 1].to_vec()),
            Err(WireError::Malformed(_))
        ));
        // Nine bytes that claim a string of 2^45 bytes: without the limit this aborts the process.
        let mut claim = vec![VERSION, 253];
        claim.extend((1_u64 << 45).to_le_bytes());
        assert!(matches!(
            Wire::<String>::from_bytes(claim).open(),
            Err(WireError::Malformed(_))
        ));
        let refusal = Wire::<TaskRequest>::unreadable(WireError::Version(2)).into_bytes();
        assert!(matches!(read(refusal), Err(WireError::Malformed(_))));
        assert!(
            round_trip("x".repeat(MAX_BYTES)).is_err(),
            "too large a message must be refused"
        );
    }

    proptest! {
        #[test]
        fn invariant_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Wire::<TaskRequest>::from_bytes(bytes.clone()).open();
            let _ = Wire::<AgentCard>::from_bytes([&[VERSION], &bytes[..]].concat()).open();
        }
    }
}
