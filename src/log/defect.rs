//! Defects that can be planted in the engine, to see whether the harness finds them: each is one
//! line, at the place its name speaks of, and asks [`planted`]. Without the feature `defects` that
//! is `false` at compile time, and nothing of this is in the program.

#[cfg(feature = "defects")]
use std::sync::atomic::{AtomicUsize, Ordering};

/// Makes the enum, the list, the names and the descriptions of one table.
macro_rules! defects {
    ($(#[doc = $what:literal] $name:ident = $text:literal,)*) => {
        /// A defect of the engine. Each breaks a promise that ARCHITECTURE.md makes.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Defect {
            $(#[doc = $what] $name,)*
        }

        impl Defect {
            /// All of them.
            pub const ALL: &[Defect] = &[$(Defect::$name,)*];

            /// Its name, as [`Defect::parse`] takes it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Defect::$name => $text,)*
                }
            }

            /// What is wrong, in a sentence.
            pub fn what(self) -> &'static str {
                match self {
                    $(Defect::$name => $what.trim_ascii(),)*
                }
            }
        }
    };
}

defects! {
    // the write path
    /// A put at `always` is answered for before its group is synced.
    AckBeforeSync = "ack-before-sync",
    /// The sync of a group is not made.
    SkipSync = "skip-sync",
    /// A sync that failed is made again, and its success believed.
    RetrySync = "retry-sync",
    /// The durable tail is told before the sync.
    TailBeforeSync = "tail-before-sync",
    /// A synced group is not padded: the next one is written into its last block.
    NoPadding = "no-padding",
    /// A batch's header says that the batch itself is durable.
    TailAheadInHeader = "tail-ahead-in-header",
    /// Headers never say how far the log is durable.
    TailNotInHeader = "tail-not-in-header",
    /// STATE says that what is written is durable.
    TailAheadInState = "tail-ahead-in-state",
    /// A segment is sealed before its last batches are synced.
    TrailerBeforeSync = "trailer-before-sync",
    /// The last of the queue goes first.
    QueueSwapped = "queue-swapped",
    /// Only the first put of a group is written.
    PartOfGroupWritten = "part-of-group-written",
    /// A write or sync that failed does not poison the log.
    FailureDoesNotPoison = "failure-does-not-poison",
    /// A poisoned log goes on taking puts.
    PoisonForgotten = "poison-forgotten",
    /// Who is refused is not told.
    RefusalUntold = "refusal-untold",
    // room
    /// A refused put keeps its place.
    PlaceLeaks = "place-leaks",
    /// The bytes of a written put count twice.
    BytesCountTwice = "bytes-count-twice",
    /// A full log takes more.
    NoLimit = "no-limit",
    /// Saved cursors make no room.
    NothingReleased = "nothing-released",
    // segments and reclaim
    /// The name of a new segment is not synced.
    SkipDirSyncNew = "skip-dir-sync-new",
    /// The name of a recycled segment is not synced.
    SkipDirSyncRecycled = "skip-dir-sync-recycled",
    /// The names that opening finds are not synced.
    SkipDirSyncFound = "skip-dir-sync-found",
    /// A segment is reclaimed that still holds an event somebody needs.
    ReclaimTooMuch = "reclaim-too-much",
    /// A segment is reclaimed before its successor is durable.
    ReclaimBeforeDurable = "reclaim-before-durable",
    /// A recycled file counts as a segment, whatever its header names.
    ForeignHeader = "foreign-header",
    // cursors
    /// Saved cursors are not written.
    CursorNotWritten = "cursor-not-written",
    /// Saved cursors are not synced: segments go before their cursors are durable.
    CursorNotSynced = "cursor-not-synced",
    /// A cursor record says that what is written is durable.
    CursorAheadOfLog = "cursor-ahead-of-log",
    /// Each cursor record is written over the one before it.
    CursorSameBlock = "cursor-same-block",
    /// After opening, the newest cursor record is written over.
    CursorOverNewest = "cursor-over-newest",
    /// A full cursor file is written over from its start, and not the other one.
    CursorSameFile = "cursor-same-file",
    /// The other cursor file is written over before this one is synced.
    SkipSwitchSync = "skip-switch-sync",
    /// The cursor record of the lowest number counts.
    OldestCursorWins = "oldest-cursor-wins",
    /// What a killed owner left of its cursors counts before it is synced.
    SkipCursorResync = "skip-cursor-resync",
    /// What only the cache has of the cursors, after a failed sync, counts.
    KeepCursorCache = "keep-cursor-cache",
    /// The names of the cursor journal's files are not synced.
    SkipCursorDirSync = "skip-cursor-dir-sync",
    /// A journal of which a write failed goes on.
    CursorFailureForgotten = "cursor-failure-forgotten",
    // opening and recovery
    /// What a killed owner left in the last segment counts before it is synced.
    SkipResync = "skip-resync",
    /// What only the cache has of the last segment's batches, after a failed sync, counts.
    KeepCache = "keep-cache",
    /// What only the cache has of the last segment's end, after a failed sync, counts.
    KeepTrailerCache = "keep-trailer-cache",
    /// A header that only the cache has is not written again.
    SkipMend = "skip-mend",
    /// An owner has the epoch of the one before it.
    EpochNotRaised = "epoch-not-raised",
    /// The newest META is written over.
    MetaSameFile = "meta-same-file",
    /// META is not synced.
    MetaNotSynced = "meta-not-synced",
    /// An offset that a sink has seen is used for another event.
    OffsetReused = "offset-reused",
    /// A torn tail stays part of the log, and the log goes on behind it.
    AppendBehindTorn = "append-behind-torn",
    /// A torn tail is taken for damage.
    TornIsDamage = "torn-is-damage",
    /// Damage in acknowledged bytes is cut like a torn tail.
    DamageIsCut = "damage-is-cut",
    /// What later headers say of a damaged place is no proof.
    LaterIgnored = "later-ignored",
    /// What recovery cuts is not saved.
    NothingSaved = "nothing-saved",
    // reading
    /// A batch header, its length with it, is trusted before its checksum.
    HeaderUnchecked = "header-unchecked",
    /// A payload's checksum is not looked at.
    PayloadUnchecked = "payload-unchecked",
    /// A batch passes at another place than it names.
    PlaceUnchecked = "place-unchecked",
    /// A trailer's checksum is not looked at.
    TrailerUnchecked = "trailer-unchecked",
    /// A reader leaves out the last block of a sealed segment.
    ReaderStopsShort = "reader-stops-short",
    /// A reader goes on in a segment where it was in another one.
    HintOfOther = "hint-of-other",
}

impl Defect {
    /// The defect of this name.
    pub fn parse(name: &str) -> Option<Defect> {
        Defect::ALL.iter().copied().find(|defect| defect.name() == name)
    }
}

/// 0 if there is none, else one more than its number.
#[cfg(feature = "defects")]
static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// Plants a defect in every log of this process, or takes it out again.
#[cfg(feature = "defects")]
pub fn plant(defect: Option<Defect>) {
    PLANTED.store(defect.map_or(0, |defect| defect as usize + 1), Ordering::Relaxed);
}

/// Whether this defect is planted.
#[cfg(feature = "defects")]
pub(crate) fn planted(defect: Defect) -> bool {
    PLANTED.load(Ordering::Relaxed) == defect as usize + 1
}

/// Whether this defect is planted: never.
#[cfg(not(feature = "defects"))]
#[inline(always)]
pub(crate) const fn planted(_: Defect) -> bool {
    false
}

/// Makes a call that the defect leaves out.
#[inline(always)]
pub(crate) fn unless<E>(defect: Defect, call: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    if planted(defect) { Ok(()) } else { call() }
}
