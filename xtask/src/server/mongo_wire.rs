//! Just enough of MongoDB's wire protocol to initiate a replica set: one command and one reply as OP_MSG. The driver
//! would do it too, but compiling the driver first would cost every newcomer minutes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const TIMEOUT: Duration = Duration::from_secs(10);
const OP_MSG: i32 = 2013;
/// Length, request id, id of what is answered, operation: four times i32.
const HEADER: usize = 16;
/// Flags (i32), then one section: its kind (a zero byte) and a document.
const BEFORE_DOCUMENT: usize = HEADER + 5;
/// No reply to our two commands is nearly as large.
const LARGEST_REPLY: usize = 1 << 20;

/// A BSON document under construction: its elements, without length and terminator.
#[derive(Debug, Default)]
pub(super) struct Document(Vec<u8>);

impl Document {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn int(self, name: &str, value: i32) -> Self {
        self.element(0x10, name, &value.to_le_bytes())
    }

    pub(super) fn text(self, name: &str, value: &str) -> Self {
        let mut bytes = length(value.len() + 1).to_vec();
        bytes.extend(value.bytes().chain([0]));
        self.element(0x02, name, &bytes)
    }

    pub(super) fn document(self, name: &str, value: &Self) -> Self {
        self.element(0x03, name, &value.encoded())
    }

    /// An array is a document whose names are "0", "1" and so on.
    pub(super) fn array(self, name: &str, value: &Self) -> Self {
        self.element(0x04, name, &value.encoded())
    }

    fn element(mut self, kind: u8, name: &str, value: &[u8]) -> Self {
        self.0.push(kind);
        self.0.extend(name.bytes().chain([0]));
        self.0.extend(value);
        self
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = length(4 + self.0.len() + 1).to_vec();
        bytes.extend(&self.0);
        bytes.push(0);
        bytes
    }
}

/// The document of a reply.
#[derive(Debug)]
pub(super) struct Reply(Vec<u8>);

impl Reply {
    /// An error with the server's own words unless the command succeeded.
    pub(super) fn expect_ok(&self) -> Result<()> {
        match self.find("ok") {
            Some((0x01, value)) if value == 1.0_f64.to_le_bytes() => Ok(()),
            _ => bail!(
                "mongod refused: {}",
                self.find("errmsg").map_or("no reason given".into(), |(_, text)| {
                    // Without the length in front and the terminator behind.
                    String::from_utf8_lossy(text.get(4..text.len().saturating_sub(1)).unwrap_or_default()).into_owned()
                })
            ),
        }
    }

    /// Whether this top-level field is `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.find(name) == Some((0x08, &[1]))
    }

    /// Kind and bytes of a top-level element.
    fn find(&self, name: &str) -> Option<(u8, &[u8])> {
        let mut rest = self.0.get(4..)?;
        loop {
            let (&kind, after_kind) = rest.split_first()?;
            let end_of_name = after_kind.iter().position(|&byte| byte == 0)?;
            let (found, after_name) = (after_kind.get(..end_of_name)?, after_kind.get(end_of_name + 1..)?);
            let size = match kind {
                0x08 => 1,
                0x10 => 4,
                0x01 | 0x09 | 0x11 | 0x12 => 8,
                0x07 => 12,
                0x0A => 0,
                0x02 => 4 + read_length(after_name)?,
                0x03 | 0x04 => read_length(after_name)?,
                0x05 => 5 + read_length(after_name)?,
                // The terminator, or a kind that these replies do not contain.
                _ => return None,
            };
            let (value, after_value) = after_name.split_at_checked(size)?;
            if found == name.as_bytes() {
                return Some((kind, value));
            }
            rest = after_value;
        }
    }
}

/// Sends one command over a new connection and returns the reply.
pub(super) fn call(address: SocketAddr, command: &Document) -> Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(&message(command))?;

    let mut first = [0; 4];
    stream.read_exact(&mut first)?;
    let size = read_length(&first).filter(|size| (BEFORE_DOCUMENT..LARGEST_REPLY).contains(size));
    let mut reply = vec![0; size.context("a reply of an impossible length")? - first.len()];
    stream.read_exact(&mut reply)?;
    let document = reply.split_off(BEFORE_DOCUMENT - first.len());
    ensure!(reply.get(8..12) == Some(&OP_MSG.to_le_bytes()), "the reply is not an OP_MSG");
    Ok(Reply(document))
}

fn message(command: &Document) -> Vec<u8> {
    let document = command.encoded();
    let mut bytes = length(BEFORE_DOCUMENT + document.len()).to_vec();
    for field in [1, 0, OP_MSG, 0] {
        bytes.extend(i32::to_le_bytes(field));
    }
    bytes.push(0);
    bytes.extend(document);
    bytes
}

/// Every length on this wire is an i32. Ours are tiny; one that is not would be refused by the server, not cut.
fn length(size: usize) -> [u8; 4] {
    i32::try_from(size).unwrap_or(i32::MAX).to_le_bytes()
}

fn read_length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(i32::from_le_bytes(*bytes.first_chunk()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::{Document, Reply, message};

    #[test]
    fn a_document_is_encoded_as_the_bson_specification_shows() {
        // The first example of the specification: {"hello": "world"}.
        let expected = b"\x16\x00\x00\x00\x02hello\x00\x06\x00\x00\x00world\x00\x00";
        assert_eq!(Document::new().text("hello", "world").encoded(), expected);
    }

    #[test]
    fn documents_and_arrays_nest() {
        let array = Document::new().array("a", &Document::new().int("0", 7));
        let expected = b"\x14\x00\x00\x00\x04a\x00\x0c\x00\x00\x00\x100\x00\x07\x00\x00\x00\x00\x00";
        assert_eq!(array.encoded(), expected);
    }

    #[test]
    fn a_message_counts_its_header() {
        let bytes = message(&Document::new().int("ping", 1));
        let header = b"\x24\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00\x00\x00\x00\x00\x00";
        assert!(bytes.starts_with(header), "{bytes:?}");
        assert_eq!(bytes.len(), 0x24);
    }

    #[test]
    fn a_field_is_found_behind_others() {
        let inner = Document::new().text("isWritablePrimary", "no");
        let document = Document::new()
            .document("topologyVersion", &inner)
            .text("me", "x")
            .element(0x07, "id", &[1; 12])
            .element(0x08, "isWritablePrimary", &[1])
            .element(0x01, "ok", &1.0_f64.to_le_bytes());
        let reply = Reply(document.encoded());
        assert!(reply.is_true("isWritablePrimary"));
        assert!(!reply.is_true("secondary"));
        assert!(reply.expect_ok().is_ok());
    }

    #[test]
    fn a_refusal_carries_the_reason() {
        let document = Document::new().element(0x01, "ok", &0.0_f64.to_le_bytes()).text("errmsg", "not today");
        let refusal = Reply(document.encoded()).expect_ok().map_err(|error| error.to_string());
        assert_eq!(refusal, Err("mongod refused: not today".to_owned()));
    }

    #[test]
    fn cut_or_foreign_bytes_are_not_found_rather_than_a_panic() {
        let whole = Document::new().text("me", "x").element(0x08, "yes", &[1]).encoded();
        for end in 0..whole.len() - 2 {
            assert!(!Reply(whole.iter().copied().take(end).collect()).is_true("yes"), "{end}");
        }
        assert!(!Reply(vec![0xff; 64]).is_true("yes"));
    }
}
