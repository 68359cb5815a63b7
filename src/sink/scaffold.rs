//! scaffold
use super::*;
use std::fs::File;
use std::io::Write;
pub struct Null;
#[async_trait]
impl Sink for Null {
    async fn open(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    async fn deliver(&mut self, _: &EventBatch) -> Outcome {
        Outcome::Delivered
    }
    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn batch_events_max(&self) -> u32 {
        1000
    }
}
pub struct Text {
    pub dir: PathBuf,
    pub file: Option<File>,
}
#[async_trait]
impl Sink for Text {
    async fn open(&mut self) -> Result<(), SinkError> {
        std::fs::create_dir_all(&self.dir)?;
        let n = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        self.file = Some(File::create(self.dir.join(format!("{n}")))?);
        Ok(())
    }
    async fn deliver(&mut self, b: &EventBatch) -> Outcome {
        let mut out = Vec::new();
        for e in b.iter() {
            out.extend_from_slice(e.event.body());
            out.push(b'\n');
        }
        let f = self.file.as_mut().expect("open");
        match f.write_all(&out).and_then(|()| f.sync_data()) {
            Ok(()) => Outcome::Delivered,
            Err(e) => Outcome::retry(e),
        }
    }
    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn batch_events_max(&self) -> u32 {
        100
    }
}
pub static NULL: crate::config::Component = crate::config::Component {
    role: crate::config::Role::Sink,
    alias: "null",
    class: "n",
    doc: "n",
    keys: &[],
};
pub static FR: crate::config::Component = crate::config::Component {
    role: crate::config::Role::Sink,
    alias: "file_roll",
    class: "f",
    doc: "n",
    keys: &[
        crate::config::Key::required("sink.directory", crate::config::Kind::Path, "", "x"),
        crate::config::Key::optional("sink.batchSize", crate::config::Kind::Text, "", "x"),
        crate::config::Key::optional("sink.rollInterval", crate::config::Kind::Text, "", "x"),
    ],
};

pub fn null(
    _: &crate::config::Settings,
    _: &SinkEnv,
) -> Result<Box<dyn Sink>, crate::config::Problem> {
    Ok(Box::new(Null))
}
pub fn fr(
    s: &crate::config::Settings,
    _: &SinkEnv,
) -> Result<Box<dyn Sink>, crate::config::Problem> {
    Ok(Box::new(Text { dir: s.text("sink.directory")?.into(), file: None }))
}
