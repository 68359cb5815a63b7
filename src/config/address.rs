//! The listen address of a source: `bind` and `port`, or both in `bind`.

use super::key::{Problem, Settings};

/// Host and port that a source listens on, from its keys `bind` and `port`.
///
/// Beside Flume's two keys, `bind = host:port` is taken without `port` (`[::1]:4141` for IPv6). The
/// host comes without brackets. Both keys must be declared; `port` may not be a required one.
///
/// # Errors
/// A key is missing, a port is not 0 to 65535, or the two keys name different ports.
pub fn bind_address(settings: &Settings) -> Result<(String, u16), Problem> {
    let bind = settings.text("bind")?;
    let port = settings.opt_int("port")?;
    let (host, inner) = split_port(bind);
    if host.is_empty() {
        return Err(settings.problem("bind", format_args!("'{bind}' names no host")));
    }
    let inner = inner.map(|text| {
        text.parse::<u16>().map_err(|_| {
            settings.problem("bind", format_args!("'{text}' in '{bind}' is not a port"))
        })
    });
    let port = match (inner.transpose()?, port) {
        (Some(inner), Some(port)) if i64::from(inner) != port => {
            let message = format!("'{bind}' names port {inner}, but port = {port}");
            return Err(settings.problem("bind", message));
        }
        (Some(inner), _) => inner,
        (None, Some(port)) => u16::try_from(port)
            .map_err(|_| settings.problem("port", format_args!("{port} is outside 0..=65535")))?,
        (None, None) => {
            let message = "required, but not set (bind = HOST:PORT does as well)";
            return Err(settings.problem("port", message));
        }
    };
    Ok((host.to_owned(), port))
}

/// Host without brackets, and what follows its colon. Two colons and no brackets: a bare IPv6 host.
fn split_port(bind: &str) -> (&str, Option<&str>) {
    if let Some((host, end)) =
        bind.strip_prefix('[').and_then(|v6| v6.find(']').map(|i| v6.split_at(i)))
    {
        // what is neither "]" nor "]:port" goes on whole, and is refused as a port
        return (host, if end == "]" { None } else { end.strip_prefix("]:").or(Some(end)) });
    }
    match bind.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (bind, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Key, Kind};

    const KEYS: &[Key] = &[
        Key::required("bind", Kind::Text, "", "Host."),
        Key::optional("port", Kind::PORT, "", "Port."),
    ];

    fn check(pairs: &[(&str, &str)], expected: Result<(&str, u16), &str>) {
        let seen = bind_address(&Settings::of_pairs("a.sources.s", KEYS, pairs));
        let seen = seen.map_err(|problem| problem.message);
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(seen, expected.map_err(|message| format!("a.sources.s.{message}")));
    }

    #[test]
    fn bind_and_port_are_flumes_two_keys() {
        check(&[("bind", "0.0.0.0"), ("port", "4141")], Ok(("0.0.0.0", 4141)));
        check(&[("bind", "::1"), ("port", "0")], Ok(("::1", 0)));
        check(&[("bind", "[::1]"), ("port", "1")], Ok(("::1", 1)));
    }

    #[test]
    fn bind_alone_may_carry_the_port() {
        check(&[("bind", "localhost:44444")], Ok(("localhost", 44444)));
        check(&[("bind", "[::1]:4141")], Ok(("::1", 4141)));
        check(&[("bind", "h:1"), ("port", "1")], Ok(("h", 1)));
    }

    #[test]
    fn wrong_address_says_what_is_wrong() {
        check(&[("port", "1")], Err("bind: required, but not set"));
        let no_port = Err("port: required, but not set (bind = HOST:PORT does as well)");
        check(&[("bind", "h")], no_port);
        check(&[("bind", "::1:4141")], no_port);
        check(&[("bind", "h:x")], Err("bind: 'x' in 'h:x' is not a port"));
        check(&[("bind", "h:65536")], Err("bind: '65536' in 'h:65536' is not a port"));
        check(&[("bind", "[::1]4")], Err("bind: ']4' in '[::1]4' is not a port"));
        check(&[("bind", ":4141")], Err("bind: ':4141' names no host"));
        check(&[("bind", "h:1"), ("port", "2")], Err("bind: 'h:1' names port 1, but port = 2"));
        check(&[("bind", "h"), ("port", "70000")], Err("port: 70000 is outside 0..=65535"));
    }
}
