//! `levada avro-client`: Flume's flags, checked and sorted.

use super::{FAILURE, UsageError, say};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// The flags as they are written.
#[derive(Args, Clone, Debug)]
pub(super) struct AvroClientFlags {
    /// Host of the Avro source
    #[arg(short = 'H', long, requires = "port")]
    host: Option<String>,
    /// Port of the Avro source
    #[arg(short = 'p', long, requires = "host")]
    port: Option<u16>,
    /// Properties of the RPC client, instead of host and port
    #[arg(short = 'P', long = "rpcProps", value_name = "FILE", conflicts_with = "host")]
    rpc_props: Option<PathBuf>,
    /// File to send, one event a line; without it and --dirname, standard input
    #[arg(short = 'F', long, value_name = "FILE")]
    filename: Option<PathBuf>,
    /// Directory to send; each file is renamed to FILE.COMPLETED when it is done
    #[arg(long, value_name = "DIR", conflicts_with = "filename")]
    dirname: Option<PathBuf>,
    /// Properties file: the headers of every event
    #[arg(short = 'R', long = "headerFile", value_name = "FILE")]
    header_file: Option<PathBuf>,
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

/// What to send, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AvroClientArgs {
    /// The source that takes the events.
    pub target: Target,
    /// Where the events come from.
    pub input: Input,
    /// A properties file whose pairs are the headers of every event.
    pub header_file: Option<PathBuf>,
}

/// The source that takes the events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// `-H`, `-p`
    Address {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `-P`: a properties file of the RPC client.
    RpcProps(PathBuf),
}

/// Where the events come from: one a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Standard input, to its end.
    Stdin,
    /// `-F`
    File(PathBuf),
    /// `--dirname`: every file, renamed when done.
    Dir(PathBuf),
}

impl AvroClientFlags {
    pub(super) fn validate(self) -> Result<AvroClientArgs, UsageError> {
        let target = match (self.host, self.port, self.rpc_props) {
            (Some(host), Some(port), _) => Target::Address { host, port },
            (_, _, Some(file)) => Target::RpcProps(file),
            _ => return Err(UsageError("no target: give -H HOST -p PORT, or -P FILE".to_owned())),
        };
        let input = match (self.filename, self.dirname) {
            (Some(file), _) => Input::File(file),
            (_, Some(dir)) => Input::Dir(dir),
            _ => Input::Stdin,
        };
        Ok(AvroClientArgs { target, input, header_file: self.header_file })
    }
}

/// SEAM: the one place where the client is called.
pub(super) fn avro_client(_args: AvroClientArgs) -> ExitCode {
    say("error: avro-client is not wired in this build\n");
    FAILURE.into()
}
