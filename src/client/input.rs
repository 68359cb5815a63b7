//! What the client sends: lines of files or of standard input, read ahead on a thread of their own.

use super::{AvroClientOptions, ClientError};
use crate::event::Event;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches read ahead.
const BATCHES_AHEAD: usize = 4;
/// The longest line: what is longer is no text, and no source takes it.
const LINE_BYTES_MAX: usize = 32 << 20;
/// What Flume's spool directory appends to the name of a file that is done.
const COMPLETED: &str = ".COMPLETED";

/// The headers of every event.
pub(super) type Headers = Arc<[(String, String)]>;

/// One file, or standard input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Input {
    Stdin,
    File {
        path: PathBuf,
        /// Whether it is renamed when it is done.
        spooled: bool,
    },
}

impl Input {
    /// The inputs that the options name; of a directory its files, oldest first.
    pub(super) fn list(options: &AvroClientOptions) -> Result<Vec<Input>, ClientError> {
        match (&options.filename, &options.dirname) {
            (Some(path), _) => Ok(vec![Input::File { path: path.clone(), spooled: false }]),
            (None, None) => Ok(vec![Input::Stdin]),
            (None, Some(dir)) => spooled_files(dir)
                .map_err(|error| ClientError::Input { path: dir.display().to_string(), error }),
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Input::Stdin => "standard input".to_owned(),
            Input::File { path, .. } => path.display().to_string(),
        }
    }

    /// Its events, `batch_events` at a time; the last batch may have fewer. Ends at an error.
    pub(super) fn batches(
        &self,
        batch_events: usize,
        headers: Headers,
    ) -> mpsc::Receiver<io::Result<Vec<Event>>> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let input = self.clone();
        // reading blocks; the thread ends with the input, or when nobody receives any more
        std::thread::spawn(move || {
            let sent = match &input {
                Input::Stdin => send_lines(io::stdin().lock(), batch_events, &headers, &sender),
                Input::File { path, .. } => File::open(path).and_then(|file| {
                    let reader = BufReader::with_capacity(1 << 16, file);
                    send_lines(reader, batch_events, &headers, &sender)
                }),
            };
            if let Err(error) = sent {
                let _nobody_listens = sender.blocking_send(Err(error));
            }
        });
        receiver
    }

    /// To be called when every event was taken.
    pub(super) fn complete(&self) -> Result<(), ClientError> {
        let Input::File { path, spooled: true } = self else { return Ok(()) };
        let mut done = path.clone().into_os_string();
        done.push(COMPLETED);
        let renamed = match fs::exists(&done) {
            Ok(true) => Err(io::Error::other(format!("{} exists already", done.display()))),
            _ => fs::rename(path, &done),
        };
        renamed.map_err(|error| ClientError::Input { path: self.name(), error })
    }
}

fn spooled_files(dir: &PathBuf) -> io::Result<Vec<Input>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (name, meta) = (entry.file_name(), fs::metadata(entry.path())?);
        let name = name.to_string_lossy();
        if meta.is_file() && !name.starts_with('.') && !name.ends_with(COMPLETED) {
            files.push((meta.modified()?, entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| Input::File { path, spooled: true }).collect())
}

fn send_lines(
    mut reader: impl BufRead,
    batch_events: usize,
    headers: &Headers,
    sender: &mpsc::Sender<io::Result<Vec<Event>>>,
) -> io::Result<()> {
    let mut lines = Lines::default();
    loop {
        let mut batch = Vec::new();
        while batch.len() < batch_events
            && let Some(body) = lines.next(&mut reader)?
        {
            batch.push(Event { headers: headers.to_vec(), body });
        }
        if batch.is_empty() || sender.blocking_send(Ok(batch)).is_err() {
            return Ok(());
        }
    }
}

/// Lines as Java's `readLine` splits them: at LF, at CR, and at CR LF.
#[derive(Default)]
struct Lines {
    /// The last line ended with CR: an LF that follows belongs to it.
    skip_lf: bool,
}

impl Lines {
    fn next(&mut self, reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut begun = false;
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(begun.then_some(line));
            }
            if std::mem::take(&mut self.skip_lf) && bytes[0] == b'\n' {
                reader.consume(1);
                continue;
            }
            begun = true;
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                let len = bytes.len();
                line.extend_from_slice(bytes);
                reader.consume(len);
                if line.len() > LINE_BYTES_MAX {
                    let message = format!("a line has more than {LINE_BYTES_MAX} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                continue;
            };
            line.extend_from_slice(&bytes[..end]);
            self.skip_lf = bytes[end] == b'\r';
            reader.consume(end + 1);
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        for capacity in [1, 2, 100] {
            let mut reader = BufReader::with_capacity(capacity, text.as_bytes());
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            while let Some(line) = lines.next(&mut reader).unwrap() {
                seen.push(String::from_utf8(line).unwrap());
            }
            assert_eq!(seen, expected, "{text:?}, read {capacity} bytes at a time");
        }
    }

    #[test]
    fn lines_are_those_of_java_s_read_line() {
        check("", &[]);
        check("a", &["a"]);
        check("a\nb\r\nc\rd", &["a", "b", "c", "d"]);
        check("\n\r\n\r\r\n", &["", "", "", ""]);
        check("a\r\n", &["a"]);
        check("a\r\n\nb\n", &["a", "", "b"]);
    }

    #[test]
    fn spooled_file_is_renamed_when_it_is_done_and_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        fs::write(dir.path().join(".hidden"), "x").unwrap();
        let list = || spooled_files(&dir.path().to_owned()).unwrap();
        let files = list();
        assert_eq!(files, [Input::File { path: dir.path().join("a"), spooled: true }]);
        files[0].complete().unwrap();
        assert!(dir.path().join("a.COMPLETED").exists());
        assert_eq!(list(), []);
    }
}
