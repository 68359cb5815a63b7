//! `levada avro-client`: the client's own flags, and those that Flume's script takes and nothing
//! here needs.

use super::{FAILURE, UsageError, print, say};
use crate::agent::logging::{self, LogFormat};
use crate::client::{self, AvroClientOptions, Summary};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// The flags as they are written.
#[derive(Args, Clone, Debug)]
pub(super) struct AvroClientFlags {
    #[command(flatten)]
    options: AvroClientOptions,
    /// Accepted as Flume's script does; nothing here needs it
    #[arg(short = 'c', long = "conf", value_name = "DIR", hide = true)]
    conf_dir: Option<PathBuf>,
    #[arg(short = 'C', long, hide = true)]
    classpath: Option<String>,
    #[arg(short = 'D', value_name = "KEY=VALUE", hide = true)]
    defines: Vec<String>,
    #[arg(short = 'X', hide = true, allow_hyphen_values = true)]
    java: Vec<String>,
}

impl AvroClientFlags {
    /// What clap can't say.
    pub(super) fn validate(self) -> Result<AvroClientOptions, UsageError> {
        if self.options.host.is_none() && self.options.rpc_props.is_none() {
            let message = "no target: give -H HOST -p PORT, or -P FILE".to_owned();
            return Err(UsageError(message));
        }
        Ok(self.options)
    }
}

/// Sends to the end. Unlike Flume's client, a failure shows in the exit code.
pub(super) fn avro_client(options: AvroClientOptions) -> ExitCode {
    logging::init(None, LogFormat::Text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let sent = match runtime {
        Ok(runtime) => {
            let sent = runtime.block_on(client::run(options));
            // a terminal that is still being read from must not keep the process
            runtime.shutdown_background();
            sent.map_err(|error| error.to_string())
        }
        Err(error) => Err(format!("start the runtime: {error}")),
    };
    match sent {
        Ok(summary) => {
            let Summary { events, batches, retries } = summary;
            print(&format!(
                "{events} events in {batches} batches acknowledged, {retries} sent again\n"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error}\n"));
            FAILURE.into()
        }
    }
}
