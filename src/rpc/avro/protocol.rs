//! The protocol `AvroSourceProtocol`: its text, its hash, and which texts of others agree with it.

use md5::{Digest, Md5};
use serde_json::Value;
use std::sync::LazyLock;

/// levada's own text of the protocol: the same types and messages as Flume's, without its comment.
pub const PROTOCOL: &str = concat!(
    r#"{"protocol":"AvroSourceProtocol","namespace":"org.apache.flume.source.avro","types":["#,
    r#"{"type":"enum","name":"Status","symbols":["OK","FAILED","UNKNOWN"]},"#,
    r#"{"type":"record","name":"AvroFlumeEvent","fields":["#,
    r#"{"name":"headers","type":{"type":"map","values":"string"}},"#,
    r#"{"name":"body","type":"bytes"}]}],"messages":{"#,
    r#""append":{"request":[{"name":"event","type":"AvroFlumeEvent"}],"response":"Status"},"#,
    r#""appendBatch":{"request":[{"name":"events","type":{"type":"array","#,
    r#""items":"AvroFlumeEvent"}}],"response":"Status"}}}"#,
);

/// The hash of the text in Flume 1.11.0. It says what [`PROTOCOL`] says.
pub const FLUME_1_11_HASH: [u8; 16] = [
    0x86, 0xaa, 0xda, 0xe2, 0xc4, 0x54, 0x74, 0xc0, 0xfe, 0x93, 0xff, 0xd0, 0xf2, 0x35, 0x0a, 0x65,
];

/// MD5 of [`PROTOCOL`].
pub fn protocol_hash() -> [u8; 16] {
    static HASH: LazyLock<[u8; 16]> = LazyLock::new(|| Md5::digest(PROTOCOL).into());
    *HASH
}

/// Whether a hash stands for a text that is known to agree with ours.
pub(super) fn is_known(hash: &[u8]) -> bool {
    hash == FLUME_1_11_HASH || hash == protocol_hash()
}

/// Whether calls by the protocol `text` have the bytes that we read; if not, what differs.
///
/// Only what is on the wire counts: the parameters of our two messages. Flume's releases differ in
/// comments and in hints to Java.
pub(super) fn agree(text: &str) -> Result<(), String> {
    let protocol: Value =
        serde_json::from_str(text).map_err(|error| format!("protocol text: {error}"))?;
    let types = protocol["types"].as_array().map_or(&[][..], Vec::as_slice);
    for (name, is_batch) in [("append", false), ("appendBatch", true)] {
        let message = &protocol["messages"][name];
        if message.is_null() {
            continue;
        }
        let request = message["request"].as_array().map_or(&[][..], Vec::as_slice);
        let [parameter] = request else {
            return Err(format!("message {name} has {} parameters, not 1", request.len()));
        };
        let mut event = &parameter["type"];
        if is_batch {
            if !is_type(event, "array") {
                return Err(format!("message {name} takes no array"));
            }
            event = &event["items"];
        }
        if !is_event(event, types) {
            let expected = "a record of headers (map of string) and body (bytes)";
            return Err(format!("message {name} takes another event than {expected}"));
        }
    }
    Ok(())
}

/// Whether `schema` is the type `name`, be it in the short or in the long form.
fn is_type(schema: &Value, name: &str) -> bool {
    schema == name || schema["type"] == name
}

fn is_event(schema: &Value, types: &[Value]) -> bool {
    let unqualified = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let record = match schema.as_str() {
        Some(name) => types.iter().find(|declared| {
            declared["name"].as_str().is_some_and(|n| unqualified(n) == unqualified(name))
        }),
        None => Some(schema),
    };
    let fields = record.filter(|r| is_type(r, "record")).and_then(|r| r["fields"].as_array());
    let Some([headers, body]) = fields.map(Vec::as_slice) else { return false };
    headers["name"] == "headers"
        && is_type(&headers["type"], "map")
        && is_type(&headers["type"]["values"], "string")
        && body["name"] == "body"
        && is_type(&body["type"], "bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_have_our_bytes_agree() {
        agree(PROTOCOL).unwrap();
        agree("{}").unwrap();
        let java = PROTOCOL.replace(
            r#""values":"string""#,
            r#""values":{"type":"string","avro.java.string":"String"}"#,
        );
        assert_ne!(java, PROTOCOL);
        agree(&java).unwrap();
    }

    #[test]
    fn texts_with_other_bytes_do_not_agree() {
        let check = |from: &str, to: &str| {
            let text = PROTOCOL.replacen(from, to, 1);
            assert_ne!(text, PROTOCOL);
            agree(&text).unwrap_err();
        };
        check(r#""type":"bytes""#, r#""type":"string""#);
        check(r#""values":"string""#, r#""values":"bytes""#);
        check(r#"{"name":"body""#, r#"{"name":"more","type":"int"},{"name":"body""#);
        check(r#""type":"array""#, r#""type":"map""#);
        check(r#"{"type":"record","name":"AvroFlumeEvent""#, r#"{"type":"record","name":"X""#);
        check(r#""request":[{"#, r#""request":[{"name":"a","type":"int"},{"#);
        check("{", "");
    }

    #[test]
    fn hash_of_our_text_is_its_md5() {
        let hex: String = protocol_hash().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "30da54059df72d9584b867d5202e2069");
        assert!(is_known(&protocol_hash()) && is_known(&FLUME_1_11_HASH) && !is_known(&[0; 16]));
    }
}
