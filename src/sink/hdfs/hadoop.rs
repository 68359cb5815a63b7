//! Which file system `hdfs.path` means, from the path itself and Hadoop's `core-site.xml`.
//!
//! | `hdfs.path` | file system |
//! |---|---|
//! | `hdfs://host:port/…`, `viewfs://…` | HDFS |
//! | `hdfs:///…` | HDFS, host from `fs.defaultFS` |
//! | `file:/…`, `file:///…` | the local one |
//! | no scheme | `fs.defaultFS`; without it the local one |
//!
//! Hadoop's files are looked for in the directory of `-c`, then in `HADOOP_CONF_DIR`, then in
//! `HADOOP_HOME/etc/hadoop`; the first that has a `core-site.xml` or `hdfs-site.xml` counts.

use crate::sink::SinkEnv;
use std::path::{Path, PathBuf};

/// A file system: where, and by which of Hadoop's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// `file:`, `hdfs://host:port`, `viewfs://name`
    pub(super) uri: String,
    pub(super) conf_dir: Option<PathBuf>,
}

impl Target {
    pub(super) fn is_local(&self) -> bool {
        self.uri == LOCAL
    }
}

/// The URI of the local file system.
pub(super) const LOCAL: &str = "file:";

/// The file system of `path` and what is left of the path.
///
/// # Errors
/// A file system that there is not, an escape in the host, a `core-site.xml` that can't be read.
pub(super) fn target_of(path: &str, env: &SinkEnv) -> Result<(Target, String), String> {
    let conf_dir = conf_dir(env);
    let (uri, rest) = match split_scheme(path) {
        Some((scheme, rest)) => split_authority(scheme, rest)?,
        None => (None, path.to_owned()),
    };
    if rest.is_empty() {
        return Err(format!("'{path}' names no directory; write a '/' behind the host"));
    }
    let uri = match uri {
        Some(uri) if uri.ends_with("://") => with_default_host(&uri, conf_dir.as_deref())?,
        Some(uri) => uri,
        None => match conf_dir.as_deref().map(default_fs).transpose()?.flatten() {
            Some(uri) => uri,
            None => LOCAL.to_owned(),
        },
    };
    if uri != LOCAL && !cfg!(feature = "hdfs") {
        return Err(format!("{uri}: this levada was built without HDFS (cargo feature 'hdfs')"));
    }
    Ok((Target { uri, conf_dir }, rest))
}

/// `scheme:rest`, if the text begins with a scheme.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    is_scheme.then_some((scheme, rest))
}

/// The URI up to the host, and the path behind it.
fn split_authority(scheme: &str, rest: &str) -> Result<(Option<String>, String), String> {
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    if host.contains('%') {
        return Err(format!("'{scheme}://{host}': the host can't have escapes"));
    }
    match scheme.as_str() {
        "file" if host.is_empty() || host == "localhost" => {
            Ok((Some(LOCAL.to_owned()), path.to_owned()))
        }
        "file" => Err(format!("'file://{host}': a file of another host; use file:///")),
        "hdfs" | "viewfs" => Ok((Some(format!("{scheme}://{host}")), path.to_owned())),
        _ => Err(format!("file system '{scheme}:' is not supported yet; use hdfs: or file:")),
    }
}

fn with_default_host(uri: &str, conf_dir: Option<&Path>) -> Result<String, String> {
    let default = conf_dir.map(default_fs).transpose()?.flatten();
    default.filter(|default| default.starts_with(uri)).ok_or_else(|| {
        format!(
            "'{uri}' names no host, and no fs.defaultFS of a core-site.xml does; write {uri}HOST"
        )
    })
}

fn conf_dir(env: &SinkEnv) -> Option<PathBuf> {
    let of_home = std::env::var_os("HADOOP_HOME").map(|home| Path::new(&home).join("etc/hadoop"));
    let of_variable = std::env::var_os("HADOOP_CONF_DIR").map(PathBuf::from);
    let dirs = [env.conf_dir.clone(), of_variable, of_home];
    dirs.into_iter()
        .flatten()
        .find(|dir| ["core-site.xml", "hdfs-site.xml"].iter().any(|name| dir.join(name).is_file()))
}

/// `fs.defaultFS` (or the old `fs.default.name`) as the start of a URI, if it is set.
fn default_fs(conf_dir: &Path) -> Result<Option<String>, String> {
    let file = conf_dir.join("core-site.xml");
    if !file.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let Some(value) = default_fs_of(&text).map_err(|e| format!("{}: {e}", file.display()))? else {
        return Ok(None);
    };
    let unusable = |why: &str| format!("{}: fs.defaultFS = {value}: {why}", file.display());
    if value.contains("${") {
        return Err(unusable("references are not supported; write the URI out"));
    }
    let Some((scheme, rest)) = split_scheme(&value) else {
        return Err(unusable("no URI like hdfs://host:port"));
    };
    let (uri, _) = split_authority(scheme, rest).map_err(|error| unusable(&error))?;
    match uri {
        Some(uri) if uri.ends_with("://") => Err(unusable("it names no host")),
        uri => Ok(uri),
    }
}

/// The value in the text of a `core-site.xml`; of several, the last, as in Hadoop.
fn default_fs_of(text: &str) -> Result<Option<String>, roxmltree::Error> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options)?;
    let properties =
        document.root_element().children().filter(|node| node.has_tag_name("property"));
    let text_of = |property: roxmltree::Node<'_, '_>, tag: &str| {
        let node = property.children().find(|node| node.has_tag_name(tag))?;
        Some(node.text()?.trim().to_owned())
    };
    let is_it = |name: &str| ["fs.defaultFS", "fs.default.name"].contains(&name);
    let given = properties.filter(|p| text_of(*p, "name").is_some_and(|name| is_it(&name)));
    Ok(given.filter_map(|property| text_of(property, "value")).next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_with(core_site: Option<&str>) -> (tempfile::TempDir, SinkEnv) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(value) = core_site {
            let property = format!("<name>fs.defaultFS</name>\n<value> {value} </value>");
            let text = format!(
                "<?xml version=\"1.0\"?>\n<!-- x -->\n<configuration><property><name>a</name>\
                 <value>b</value></property><property>{property}<final>true</final></property>\
                 </configuration>"
            );
            std::fs::write(dir.path().join("core-site.xml"), text).unwrap();
        }
        let env = SinkEnv { conf_dir: Some(dir.path().to_owned()), state_dir: None };
        (dir, env)
    }

    fn check(core_site: Option<&str>, path: &str, expected: Result<(&str, &str), &str>) {
        let (_dir, env) = env_with(core_site);
        let seen = target_of(path, &env).map(|(target, rest)| (target.uri, rest));
        match (seen, expected) {
            (Ok((uri, rest)), Ok(expected)) => assert_eq!((uri.as_str(), rest.as_str()), expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (seen, expected) => panic!("{path}: {seen:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn path_without_scheme_is_on_the_default_file_system() {
        check(None, "/user/hive/flume", Ok(("file:", "/user/hive/flume")));
        check(Some("file:///"), "/a", Ok(("file:", "/a")));
        check(Some("file:///"), "out/%Y:%m", Ok(("file:", "out/%Y:%m")));
    }

    #[cfg(feature = "hdfs")]
    #[test]
    fn hdfs_is_named_by_the_path_or_by_core_site() {
        check(Some("hdfs://nn:9820/"), "/a", Ok(("hdfs://nn:9820", "/a")));
        check(Some("hdfs://nn:9820"), "file:/a", Ok(("file:", "/a")));
        check(Some("hdfs://nn:9820"), "hdfs:///a", Ok(("hdfs://nn:9820", "/a")));
        check(None, "HDFS://other/a/%{b}", Ok(("hdfs://other", "/a/%{b}")));
        check(None, "viewfs://table/a", Ok(("viewfs://table", "/a")));
    }

    #[test]
    fn what_names_no_file_system_is_refused_by_name() {
        check(None, "s3a://bucket/a", Err("'s3a:' is not supported yet"));
        check(None, "hdfs:///a", Err("names no host"));
        check(None, "hdfs://%{nn}/a", Err("can't have escapes"));
        check(None, "file://elsewhere/a", Err("another host"));
        check(None, "hdfs://nn", Err("names no directory"));
        check(Some("hdfs://${nn}:1"), "/a", Err("write the URI out"));
        check(Some("<"), "/a", Err("core-site.xml"));
    }

    #[cfg(not(feature = "hdfs"))]
    #[test]
    fn hdfs_is_refused_by_name_without_the_feature() {
        check(None, "hdfs://nn/a", Err("built without HDFS"));
        check(Some("hdfs://nn:9820"), "/a", Err("built without HDFS"));
    }
}
