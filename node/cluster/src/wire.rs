//! How a value crosses from node to node: bincode with a limit and no bytes after the value.
//!
//! No other module knows bincode. Versions are the frame's business: the shape of a value on the wire never changes, a new
//! shape gets a new kind of entry.

use bincode::config::Config;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest value, in bytes: four times the largest result of a specialist. Parcels carry values of this size.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The error of a value that cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The value cannot be encoded, or is larger than [`MAX_BYTES`].
    #[error("not encodable: {0}")]
    Unencodable(String),
    /// The bytes are not a value of the expected shape.
    #[error("not decodable: {0}")]
    Malformed(String),
}

/// Without the limit, nine bytes that claim a text of 2^45 bytes abort the process.
fn config() -> impl Config {
    bincode::config::standard().with_limit::<MAX_BYTES>()
}

/// Appends a value to `bytes`.
///
/// # Errors
/// [`WireError::Unencodable`]; `bytes` is as it was.
pub fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<(), WireError> {
    let before = bytes.len();
    let written = bincode::serde::encode_into_std_write(value, bytes, config());
    let refused = match written {
        Ok(length) if length <= MAX_BYTES => return Ok(()),
        Ok(length) => format!("{length} bytes are more than {MAX_BYTES}"),
        Err(error) => error.to_string(),
    };
    bytes.truncate(before);
    Err(WireError::Unencodable(refused))
}

/// Writes a value.
///
/// # Errors
/// [`WireError::Unencodable`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(256);
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Reads a value from all of `bytes`.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let malformed = |reason: String| WireError::Malformed(reason);
    let (value, read) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| malformed(error.to_string()))?;
    if read == bytes.len() {
        Ok(value)
    } else {
        Err(malformed("bytes follow the value's end".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::{AgentCard, Capability};
    use proptest::prelude::*;

    use super::*;

    fn card() -> AgentCard {
        let capability = Capability::new("weather.get", "The weather.");
        AgentCard::new("w-1", "Weather.", vec![capability])
    }

    #[test]
    fn cards_cross_whole() {
        let bytes = encode(&card()).unwrap();
        assert_eq!(decode::<AgentCard>(&bytes).unwrap(), card());
    }

    #[test]
    fn what_cannot_be_read_is_an_error_not_a_panic() {
        let bytes = encode(&card()).unwrap();
        let read = |bytes: &[u8]| decode::<AgentCard>(bytes);
        assert!(read(&[]).is_err());
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
        // Nine bytes that claim a string of 2^45 bytes.
        let mut claim = vec![253];
        claim.extend((1_u64 << 45).to_le_bytes());
        assert!(decode::<String>(&claim).is_err());
    }

    #[test]
    fn too_large_a_value_is_not_written() {
        let mut bytes = vec![7];
        let text = "x".repeat(MAX_BYTES);
        assert!(encode_into(&text, &mut bytes).is_err());
        assert_eq!(bytes, [7]);
    }

    proptest! {
        #[test]
        fn invariant_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<AgentCard>(&bytes);
        }
    }
}
