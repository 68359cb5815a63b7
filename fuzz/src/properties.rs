//! Config texts: read, merged, resolved, planned with the agent's own table of components.
//!
//! No panic, no hang; the same text gives the same plan, values that are written out are read back
//! as they were, and a text that is refused leniently is refused without that as well.

use super::input::Input;
use levada::agent::registry::{build_source, components};
use levada::config::{ConfigText, Lookup, Plan, Properties, Request, plan};
use std::collections::BTreeMap;

/// Longer texts only cost time.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Plans the texts that `data` holds: flags, then one text, or two with a zero byte between.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let bytes = input.rest();
    if bytes.len() > TEXT_BYTES_MAX {
        return;
    }
    let texts: Vec<_> = bytes
        .splitn(2, |byte| *byte == 0)
        .zip(["a.properties", "b.properties"])
        .map(|(bytes, name)| ConfigText { name: name.to_owned(), bytes: bytes.to_vec() })
        .collect();
    texts.iter().for_each(written_and_read);
    let agent = (flags & 1 != 0).then_some("a");
    let strict = plan_of(&texts, agent, false);
    let lenient = plan_of(&texts, agent, true);
    assert_eq!(text_of(&strict), text_of(&plan_of(&texts, agent, false)), "the same plan again");
    assert!(!lenient.is_refused() || strict.is_refused(), "{:?}", text_of(&lenient));
    check(&strict);
    check(&lenient);
}

fn plan_of(texts: &[ConfigText], agent: Option<&str>, lenient: bool) -> Plan {
    let system = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    let env = |name: &str| (name == "PORT").then(|| "4141".to_owned());
    let components = components();
    let lookup = Lookup { env: &env, system: &system };
    plan(&Request { texts, agent, lookup, components: &components, lenient })
}

fn text_of(plan: &Plan) -> String {
    format!("{plan:?}")
}

/// What a plan promises: every channel that is named is there, every problem says something.
fn check(plan: &Plan) {
    plan.problems.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
    if plan.is_refused() {
        return;
    }
    let channels: Vec<_> = plan.channels.iter().map(|channel| channel.name.as_str()).collect();
    for source in &plan.sources {
        assert!(!source.channels.is_empty(), "a source has a channel");
        assert!(source.channels.iter().all(|name| channels.contains(&name.as_str())));
        let _ = build_source(source);
    }
    for sink in &plan.sinks {
        assert!(channels.contains(&sink.channel.as_str()));
    }
}

/// Values written with every character escaped are read back as they were.
fn written_and_read(text: &ConfigText) {
    let properties = Properties::read(&text.name, &text.bytes, &mut Vec::new());
    let mut written = String::new();
    for (key, value) in properties.iter() {
        for (part, end) in [(key, '='), (value.text.as_str(), '\n')] {
            part.encode_utf16().for_each(|unit| written.push_str(&format!("\\u{unit:04x}")));
            written.push(end);
        }
    }
    let mut problems = Vec::new();
    let again = Properties::read(&text.name, written.as_bytes(), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    let pairs = |properties: &Properties| -> Vec<(String, String)> {
        properties.iter().map(|(key, value)| (key.to_owned(), value.text.clone())).collect()
    };
    assert_eq!(pairs(&again), pairs(&properties));
}
