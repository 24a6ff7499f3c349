//! The first exchange with the harness, over its pipes: a length in 4 bytes, lowest first, and a protobuf message, each way.
//!
//! Two messages with three fields between them are written and read by hand: a protobuf crate with its generator would be
//! more than this whole file, and all that follows on the socket is JSON. The format is the protobuf wire format: a field
//! begins with `number << 3 | type`, where type 0 is a variable-length number and 2 a length with so many bytes.

use midplane_plugin::{Error, Result};

/// Longest answer that is read, in bytes. A real one has 40.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where the harness listens, and the key that it made up for whoever started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The port on the loopback address.
    pub port: u16,
    /// Good for this one process only; sent as `x-goog-api-key`.
    pub key: String,
}

/// `InputConfig` with its length: where conversations are kept; an empty text keeps none.
#[must_use]
pub fn hello(storage_directory: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !storage_directory.is_empty() {
        // Field 1, `storage_directory`.
        message.push(1 << 3 | 2);
        varint(storage_directory.len() as u64, &mut message);
        message.extend_from_slice(storage_directory.as_bytes());
    }
    let mut framed = u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    framed.append(&mut message);
    framed
}

/// `OutputConfig` and how many bytes it took, once all of it has come; unset while more is needed. Errors: `invalid` code
/// `handshake` for what is no such message.
pub fn answer(bytes: &[u8]) -> Result<Option<(Listening, usize)>> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(wrong(&format!("its answer would have {length} bytes")));
    }
    let Some(mut message) = rest.get(..length) else { return Ok(None) };
    let (mut port, mut key) = (None, None);
    while !message.is_empty() {
        let tag = number(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => port = Some(number(&mut message)?),
            (2, 2) => {
                let text = field(&mut message)?;
                key = Some(String::from_utf8(text.to_vec()).map_err(|_| wrong("its key is no text"))?);
            }
            // What later versions add is passed over, by the length of its type.
            (_, 0) => drop(number(&mut message)?),
            (_, 1) => drop(take(&mut message, 8)?),
            (_, 2) => drop(field(&mut message)?),
            (_, 5) => drop(take(&mut message, 4)?),
            (_, other) => return Err(wrong(&format!("a field has type {other}"))),
        }
    }
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let port = port.ok_or_else(|| wrong("it names no port"))?;
    // A key is sent as a header.
    let key = key.filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
    let key = key.ok_or_else(|| wrong("it names no key"))?;
    Ok(Some((Listening { port, key }, 4 + length)))
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn number(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(wrong("a number is too long"))
}

fn field<'m>(message: &mut &'m [u8]) -> Result<&'m [u8]> {
    let length = number(message)?;
    take(message, usize::try_from(length).unwrap_or(usize::MAX))
}

fn take<'m>(message: &mut &'m [u8], length: usize) -> Result<&'m [u8]> {
    let (taken, rest) = message.split_at_checked(length).ok_or_else(|| wrong("its answer is cut"))?;
    *message = rest;
    Ok(taken)
}

fn wrong(what: &str) -> Error {
    Error::invalid("handshake", format!("the program does not greet as the harness does: {what}"))
        .hint("check that the setting `program` names Antigravity's `localharness`")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the real program writes it, with a field that this version does not know.
    fn real() -> Vec<u8> {
        let mut message = vec![0x08, 0xe1, 0xf9, 0x02, 0x12, 4];
        message.extend_from_slice(b"k3y!");
        message.extend_from_slice(&[0x1a, 1, 9, 0x25, 1, 2, 3, 4]);
        let mut framed = (message.len() as u32).to_le_bytes().to_vec();
        framed.extend_from_slice(&message);
        framed
    }

    #[test]
    fn what_is_sent() {
        assert_eq!(hello(""), [0, 0, 0, 0]);
        assert_eq!(hello("/s"), [4, 0, 0, 0, 0x0a, 2, b'/', b's']);
        assert_eq!(&hello(&"x".repeat(200))[..7], [203, 0, 0, 0, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn the_answer_is_read_when_it_is_whole() {
        let real = real();
        for cut in 0..real.len() {
            assert_eq!(answer(&real[..cut]), Ok(None), "{cut} bytes");
        }
        let listening = Listening { port: 48353, key: "k3y!".into() };
        assert_eq!(answer(&real), Ok(Some((listening.clone(), real.len()))));
        let more = [real.as_slice(), b"more"].concat();
        assert_eq!(answer(&more), Ok(Some((listening, real.len()))));
    }

    #[test]
    fn what_is_no_answer_is_said() {
        for (bytes, why) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], "its answer would have 1347703880 bytes"),
            (&[0, 0, 0, 0], "it names no port"),
            (&[2, 0, 0, 0, 8, 0], "it names no port"),
            (&[4, 0, 0, 0, 8, 0xff, 0xff, 7], "it names no port"),
            (&[3, 0, 0, 0, 8, 80, 0x12], "its answer is cut"),
            (&[2, 0, 0, 0, 8, 80], "it names no key"),
            (&[5, 0, 0, 0, 8, 80, 0x12, 1, b'\n'], "it names no key"),
            (&[1, 0, 0, 0, 7], "a field has type 7"),
        ] {
            let error = answer(bytes).expect_err(why);
            assert!(error.message.contains(why), "{}", error.message);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = answer(&bytes);
            let mut framed = (bytes.len() as u32).to_le_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            let _ = answer(&framed);
        }
    }
}
