//! The options that name a config, and the way from them to a plan.

use super::UsageError;
use crate::agent::{RunOptions, registry};
use crate::config::{ConfigText, Lookup, Plan, Problem, Request, Severity, plan};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which config, and how it is read.
#[derive(Args, Clone, Default, Debug)]
pub struct ConfigArgs {
    /// Name of the agent; may be left out if the config has only one
    #[arg(short, long)]
    pub name: Option<String>,
    /// Config file; of several, the later ones win, key by key
    #[arg(short = 'f', long = "conf-file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Directory with core-site.xml and hdfs-site.xml
    #[arg(short = 'c', long = "conf", value_name = "DIR")]
    pub conf_dir: Option<PathBuf>,
    /// Leave out what is broken and run the rest, as Flume does
    #[arg(long)]
    pub lenient: bool,
    /// A system property, as of Java: `${sys:KEY}`, flume.root.logger
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = define)]
    pub defines: Vec<(String, String)>,
    #[command(flatten)]
    flume: FlumeArgs,
}

/// Flume's options that do nothing here, or can't be followed.
#[derive(Args, Clone, Default, Debug)]
struct FlumeArgs {
    #[arg(short = 'X', hide = true, allow_hyphen_values = true)]
    java: Vec<String>,
    #[arg(short = 'C', long, hide = true)]
    classpath: Option<String>,
    #[arg(long, hide = true)]
    plugins_path: Option<String>,
    #[arg(long, hide = true)]
    no_reload_conf: bool,
    #[arg(short = 'i', long, hide = true)]
    poll_interval: Option<String>,
    #[arg(short = 'u', long, hide = true)]
    conf_uri: Vec<String>,
    #[arg(long, alias = "prov", hide = true)]
    conf_provider: Option<String>,
    #[arg(short = 'a', long, hide = true)]
    auth_provider: Option<String>,
    #[arg(long, alias = "user", hide = true)]
    conf_user: Option<String>,
    #[arg(long, alias = "pwd", hide = true)]
    conf_password: Option<String>,
    #[arg(short = 'b', long, hide = true)]
    backup_directory: Option<String>,
    #[arg(short = 'z', long = "zkConnString", hide = true)]
    zk_conn_string: Option<String>,
    #[arg(short = 'p', long = "zkBasePath", hide = true)]
    zk_base_path: Option<String>,
}

/// Flume's system properties that ask for something which is not there yet.
const LATER_PROPERTIES: [&str; 4] =
    ["flume.monitoring.", "lookups", "javax.net.ssl.", "flume.ssl."];

fn define(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match key.trim() {
        "" => Err("a system property is -DKEY=VALUE".to_owned()),
        key => Ok((key.to_owned(), value.to_owned())),
    }
}

impl ConfigArgs {
    /// What clap can't say.
    pub(super) fn validate(&self) -> Result<(), UsageError> {
        let flume = &self.flume;
        let refused = [
            ("-u/--conf-uri", !flume.conf_uri.is_empty()),
            ("-prov/--conf-provider", flume.conf_provider.is_some()),
            ("-a/--auth-provider", flume.auth_provider.is_some()),
            ("-user/--conf-user", flume.conf_user.is_some()),
            ("-pwd/--conf-password", flume.conf_password.is_some()),
            ("-b/--backup-directory", flume.backup_directory.is_some()),
            ("-z/--zkConnString", flume.zk_conn_string.is_some()),
            ("-p/--zkBasePath", flume.zk_base_path.is_some()),
        ];
        if let Some((option, _)) = refused.iter().find(|(_, given)| *given) {
            let message = format!("{option} is not supported by this version: use -f FILE");
            return Err(UsageError(message));
        }
        if self.files.is_empty() {
            return Err(UsageError("no config: give it with -f FILE".to_owned()));
        }
        Ok(())
    }

    /// The system properties; of a key given twice, the last value.
    pub fn system(&self) -> BTreeMap<String, String> {
        self.defines.iter().cloned().collect()
    }

    /// What of the options does nothing here.
    pub(super) fn notices(&self) -> Vec<String> {
        let flume = &self.flume;
        let mut notices = Vec::new();
        let java = !flume.java.is_empty() || flume.classpath.is_some();
        if java || flume.plugins_path.is_some() {
            notices.push("options of the Java machine (-X…, -C, --plugins-path) do nothing here");
        }
        if flume.poll_interval.is_some() {
            notices.push("--poll-interval does nothing: the config is read once, at the start");
        }
        let mut notices: Vec<_> = notices.into_iter().map(str::to_owned).collect();
        for prefix in LATER_PROPERTIES {
            if let Some((key, _)) = self.defines.iter().find(|(key, _)| key.starts_with(prefix)) {
                notices.push(format!("-D{key} does nothing: not supported yet by this version"));
            }
        }
        if let Some(dir) = self.conf_dir.as_deref().filter(|dir| !dir.is_dir()) {
            notices.push(format!("-c {}: no such directory", dir.display()));
        }
        notices
    }

    /// Reads the files and makes the plan; what can't be read is a problem of the plan.
    pub fn plan(&self) -> Plan {
        let (texts, unread) = self.read();
        let system = self.system();
        let env = |name: &str| std::env::var(name).ok();
        let mut plan = plan(&Request {
            texts: &texts,
            agent: self.name.as_deref(),
            lookup: Lookup { env: &env, system: &system },
            components: &registry::components(),
            lenient: self.lenient,
        });
        if !unread.is_empty() {
            // half a config has problems that the whole one may not have
            plan.problems = unread;
        }
        if !plan.is_refused() {
            self.try_to_build(&mut plan);
        }
        plan
    }

    /// What a component's own constructor refuses is a problem of the plan too.
    fn try_to_build(&self, plan: &mut Plan) {
        let options = RunOptions { conf_dir: self.conf_dir.clone(), progress: false };
        let Err(mut problems) = crate::agent::build(plan, &options) else { return };
        if self.lenient {
            let broken = |kind: &str, name: &str| {
                let component = format!("{}.{kind}.{name}", plan.agent);
                problems.iter().any(|problem| problem.component == component)
            };
            let sources = plan.sources.iter().filter(|s| !broken("sources", &s.name));
            let sinks = plan.sinks.iter().filter(|s| !broken("sinks", &s.name));
            (plan.sources, plan.sinks) = (sources.cloned().collect(), sinks.cloned().collect());
            if crate::agent::build(plan, &options).is_ok() {
                problems.iter_mut().for_each(|problem| problem.severity = Severity::Warning);
            }
        }
        plan.problems.extend(problems);
    }

    fn read(&self) -> (Vec<ConfigText>, Vec<Problem>) {
        let mut texts = Vec::new();
        let mut problems = Vec::new();
        for file in &self.files {
            let name = file.display().to_string();
            match read_file(file) {
                Ok(bytes) => texts.push(ConfigText { name, bytes }),
                Err(reason) => problems.push(Problem {
                    severity: Severity::Error,
                    origin: None,
                    component: String::new(),
                    message: format!("{name}: {reason}"),
                }),
            }
        }
        (texts, problems)
    }
}

fn read_file(file: &Path) -> Result<Vec<u8>, String> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    if let Some(kind @ ("json" | "yaml" | "xml")) = extension {
        return Err(format!("{kind} is not supported: a config is a .properties file"));
    }
    std::fs::read(file).map_err(|error| format!("can't be read: {error}"))
}
