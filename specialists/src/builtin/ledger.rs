//! The ledger: an SQLite file that is made from the shipped sample once, and only read from then on.
//!
//! Does not know what is asked of it; the query specialist writes the statements.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use amcp_protocol::{ErrorCode, Failure};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode as SqliteCode, OpenFlags};
use tokio_util::sync::CancellationToken;

/// The ledger's name in the data folder. Answers name it without its path, which is the server's matter.
const FILE: &str = "ledger.sqlite";
const SAMPLE: &str = include_str!("../../data/ledger.csv");

/// In SQLite's header, marks the file as the sample ("AMCP"): its departments and categories are known.
const APPLICATION_ID: i32 = 0x414D_4350;

const SCHEMA: &str = "
CREATE TABLE expenses (
    id           INTEGER PRIMARY KEY,
    date         TEXT NOT NULL,
    department   TEXT NOT NULL,
    category     TEXT NOT NULL,
    vendor       TEXT NOT NULL,
    description  TEXT,
    amount_cents INTEGER NOT NULL,
    year         INTEGER AS (CAST(substr(date, 1, 4) AS INTEGER)),
    quarter      TEXT AS ('Q' || ((CAST(substr(date, 6, 2) AS INTEGER) + 2) / 3)),
    amount       REAL AS (amount_cents / 100.0)
);
CREATE INDEX expenses_by_date ON expenses (date);
";

/// How many steps of SQLite's machine pass between two looks at the clock. Plain steps are far below a microsecond, but
/// one that compares texts as long as [`MAX_VALUE_BYTES`] takes milliseconds, and no step can be broken off.
const STEPS_BETWEEN_LOOKS: i32 = 1_000;
/// Longest value and longest row: far more than an expense has; with [`MAX_PATTERN_BYTES`] it bounds a single step.
const MAX_VALUE_BYTES: i32 = 64 * 1024;
/// Longest pattern of LIKE and GLOB, whose time is the text's length times the pattern's.
const MAX_PATTERN_BYTES: i32 = 200;
/// Most columns of a result: more than people read, and few enough for a row to stay small.
const MAX_COLUMNS: i32 = 64;

/// Most memory of all statements of the process together: sorters and temporary tables live there, so that no statement fills
/// a disk. SQLite has no limit for a single connection.
const MAX_MEMORY_BYTES: i64 = 128 * 1024 * 1024;

/// Where the ledger is.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    path: PathBuf,
}

impl Ledger {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(FILE),
        }
    }

    /// Whether it is the shipped sample, now or after it is made; reads a few bytes at most.
    pub(super) fn is_sample(&self) -> bool {
        let mut header = [0; 72];
        match std::fs::File::open(&self.path).and_then(|mut file| file.read_exact(&mut header)) {
            Ok(()) => header.ends_with(&APPLICATION_ID.to_be_bytes()),
            Err(_) => !self.path.exists(),
        }
    }

    /// For people: which ledger this is.
    pub(super) fn source(&self) -> String {
        if self.is_sample() {
            "sample ledger (fictitious)".to_owned()
        } else {
            format!("ledger {FILE}")
        }
    }

    /// Opens it for reading; the first time, makes it. Blocks.
    ///
    /// Statements end when `stop` is cancelled or `time` is over.
    pub(super) fn open(&self, stop: CancellationToken, time: Duration) -> Result<Reader, Failure> {
        if !self.path.exists() {
            self.make().map_err(|problem| {
                Failure::task(format!("the sample ledger cannot be made: {problem}"))
                    .hint("choose a data folder that can be written to")
            })?;
        }
        let until = Instant::now() + time;
        self.open_read_only(stop, until)
            .map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &rusqlite::Error) -> Failure {
        if let Some(crowded_out) = crowded_out(error) {
            return crowded_out;
        }
        Failure::task(format!("{FILE} is no usable ledger: {error}")).hint(
            "it needs a table expenses (date, department, category, vendor, amount_cents); move the file away to have the \
             sample ledger made anew",
        )
    }

    fn open_read_only(&self, stop: CancellationToken, until: Instant) -> rusqlite::Result<Reader> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.pragma_update(None, "hard_heap_limit", MAX_MEMORY_BYTES)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.authorizer(Some(only_reading))?;
        // Reads the schema too, before the limits: tables of a ledger of one's own may be wide.
        connection
            .prepare("SELECT date, department, category, vendor, amount_cents FROM expenses")?;
        for (limit, most) in [
            (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES),
            (Limit::SQLITE_LIMIT_COLUMN, MAX_COLUMNS),
            // As much as people write.
            (Limit::SQLITE_LIMIT_SQL_LENGTH, 16_384),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 20),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
        ] {
            connection.set_limit(limit, most)?;
        }
        let token = stop.clone();
        connection.progress_handler(
            STEPS_BETWEEN_LOOKS,
            Some(move || token.is_cancelled() || Instant::now() >= until),
        )?;
        Ok(Reader {
            connection,
            stop,
            until,
        })
    }

    /// Makes the sample beside its place and moves it there whole: a process that dies leaves no half ledger, and of two
    /// that do it at once one replaces the other's equal file.
    fn make(&self) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let unfinished = self.path.with_extension(format!(
            "{}-{:016x}.tmp",
            std::process::id(),
            fastrand::u64(..)
        ));
        let made = fill(&unfinished)
            .map_err(Into::into)
            .and_then(|()| Ok(std::fs::rename(&unfinished, &self.path)?));
        if made.is_err() {
            // Best effort: the error that is reported is the first one.
            drop(std::fs::remove_file(&unfinished));
        }
        made
    }
}

/// The memory that a plain query lacks is held by another one's SELECT, for ten seconds at most.
pub(super) fn crowded_out(error: &rusqlite::Error) -> Option<Failure> {
    let is_meant = error.sqlite_error_code() == Some(SqliteCode::OutOfMemory);
    is_meant.then(|| {
        Failure::new(
            ErrorCode::AgentBusy,
            "other queries hold the ledger's memory",
        )
        .retry_after_ms(2_000)
    })
}

fn out_of_memory() -> Failure {
    let most = MAX_MEMORY_BYTES / (1024 * 1024);
    Failure::task(format!(
        "the queries under way need more than {most} MiB of memory"
    ))
    .hint("sort or group fewer rows or columns, or ask again later")
}

fn fill(path: &Path) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    {
        let mut insert = transaction.prepare(
            "INSERT INTO expenses (date, department, category, vendor, description, amount_cents) VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        for line in SAMPLE.lines().skip(1) {
            insert.execute(rusqlite::params_from_iter(line.split(',')))?;
        }
    }
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)
}

/// Lets a statement read and compute, and nothing else.
fn only_reading(context: AuthContext<'_>) -> Authorization {
    let reads = if let AuthAction::Function { function_name } = context.action {
        !function_name.eq_ignore_ascii_case("load_extension")
    } else {
        matches!(
            context.action,
            AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive
        )
    };
    if reads {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

/// An open ledger. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) connection: Connection,
    stop: CancellationToken,
    until: Instant,
}

impl Reader {
    /// Whether the ledger's table has a column beyond the required ones.
    pub(super) fn has_column(&self, column: &str) -> bool {
        self.connection
            .prepare(&format!("SELECT {column} FROM expenses"))
            .is_ok()
    }

    /// What a statement's error means to the user.
    pub(super) fn failure(&self, error: &rusqlite::Error) -> Failure {
        match error.sqlite_error_code() {
            Some(SqliteCode::OperationInterrupted) if self.stop.is_cancelled() => {
                Failure::new(ErrorCode::Cancelled, "the query was cancelled")
            }
            Some(SqliteCode::OperationInterrupted) if Instant::now() >= self.until => {
                Failure::task("the query takes too long").hint("ask for a shorter period or a simpler statement")
            }
            Some(SqliteCode::OutOfMemory) => out_of_memory(),
            Some(SqliteCode::AuthorizationForStatementDenied) => {
                Failure::task("the ledger can only be read").hint("write a single SELECT on the table expenses")
            }
            _ => Failure::task(format!("the ledger cannot answer: {error}"))
                .hint("the table is expenses (date, year, quarter, department, category, vendor, description, amount, amount_cents)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn open(ledger: &Ledger) -> Result<Reader, Failure> {
        ledger.open(CancellationToken::new(), Duration::from_secs(20))
    }

    fn count(reader: &Reader) -> i64 {
        reader
            .connection
            .query_row("SELECT count(*) FROM expenses", [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn many_first_uses_at_once_make_one_whole_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&dir.path().join("deep/data"));
        assert!(ledger.is_sample());
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    assert_eq!(count(&open(&ledger).unwrap()), 3679);
                });
            }
        });
        assert!(ledger.is_sample());
        let files: Vec<_> = std::fs::read_dir(ledger.path.parent().unwrap())
            .unwrap()
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn a_creation_that_was_torn_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ledger.99-0000.tmp"), "SQLite for").unwrap();
        assert_eq!(count(&open(&Ledger::new(dir.path())).unwrap()), 3679);
    }

    #[test]
    fn a_ledger_of_ones_own_is_used_as_it_is_and_an_unusable_one_said() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path());
        let own = Connection::open(&ledger.path).unwrap();
        own.execute_batch("CREATE TABLE bills (x)").unwrap();
        let failure = open(&ledger).unwrap_err();
        assert!(
            failure.message.contains("expenses") && failure.hint.unwrap().contains("amount_cents")
        );
        own.execute_batch("CREATE TABLE expenses (date TEXT, department TEXT, category TEXT, vendor TEXT, amount_cents INTEGER);
            INSERT INTO expenses VALUES ('2024-01-01', 'R&D', 'Tea', 'Leaf', 1);").unwrap();
        assert!(!ledger.is_sample());
        let reader = open(&ledger).unwrap();
        assert_eq!(count(&reader), 1);
        assert!(!reader.has_column("description") && reader.has_column("vendor"));

        std::fs::write(&ledger.path, "no database at all, but long enough to hold a header of SQLite's, which has a hundred bytes").unwrap();
        assert!(
            open(&ledger)
                .unwrap_err()
                .message
                .contains("no usable ledger")
        );
        std::fs::remove_file(&ledger.path).unwrap();
        std::fs::create_dir(&ledger.path).unwrap();
        assert!(
            open(&ledger)
                .unwrap_err()
                .message
                .contains("no usable ledger")
        );
    }

    #[test]
    fn a_plain_query_without_memory_is_tried_again_and_no_other_one() {
        let error = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let failure = crowded_out(&error(rusqlite::ffi::SQLITE_NOMEM)).unwrap();
        assert!(failure.code.is_transient() && failure.retry_after_ms.is_some());
        assert_eq!(crowded_out(&error(rusqlite::ffi::SQLITE_CORRUPT)), None);
    }

    #[test]
    fn nothing_but_reading_passes() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path());
        let reader = open(&ledger).unwrap();
        let before = std::fs::read(&ledger.path).unwrap();
        for statement in [
            "DELETE FROM expenses",
            "UPDATE expenses SET amount_cents = 0",
            "INSERT INTO expenses (date) VALUES ('x')",
            "DROP TABLE expenses",
            "CREATE TEMP TABLE t (x)",
            "ATTACH ':memory:' AS other",
            "PRAGMA query_only = 0",
            "PRAGMA writable_schema = 1",
            "VACUUM INTO '/tmp/copy.sqlite'",
            "BEGIN IMMEDIATE",
            "SELECT load_extension('x')",
            "SELECT 1; DELETE FROM expenses",
        ] {
            let outcome = reader
                .connection
                .prepare(statement)
                .and_then(|mut s| s.query([])?.next().map(|_| ()));
            assert!(outcome.is_err(), "{statement}");
        }
        assert_eq!(std::fs::read(&ledger.path).unwrap(), before);
    }

    #[test]
    fn a_single_step_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let reader = open(&Ledger::new(dir.path())).unwrap();
        let outcome = |sql: &str| {
            let outcome = reader.connection.query_row(sql, [], |_| Ok(()));
            outcome.map_err(|error| error.to_string())
        };
        let pattern = |length: usize| {
            format!(
                "SELECT vendor LIKE '{}' FROM expenses",
                "%a".repeat(length / 2)
            )
        };
        assert!(outcome(&pattern(200)).is_ok());
        assert!(
            outcome(&pattern(202))
                .unwrap_err()
                .contains("pattern too complex")
        );
        assert!(outcome("SELECT printf('%.*c', 65000, 'x') FROM expenses").is_ok());
        assert!(
            outcome("SELECT printf('%.*c', 66000, 'x') FROM expenses")
                .unwrap_err()
                .contains("too big")
        );
        let columns =
            |count: usize| format!("SELECT {} FROM expenses", vec!["id"; count].join(","));
        assert!(outcome(&columns(64)).is_ok());
        assert!(
            outcome(&columns(65))
                .unwrap_err()
                .contains("too many columns")
        );
    }

    #[test]
    fn a_huge_sort_is_refused_and_fills_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path());
        let reader = open(&ledger).unwrap();
        let sorted = |rows: u32| {
            let sql = format!(
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {rows})
                SELECT zeroblob(60000) FROM n ORDER BY random()"
            );
            let first = reader.connection.query_row(&sql, [], |_| Ok(()));
            first.map_err(|error| reader.failure(&error))
        };
        let failure = sorted(20_000).unwrap_err();
        assert!(failure.message.contains("memory"), "{failure}");
        assert!(failure.hint.is_some());
        // What was taken is given back.
        assert_eq!(sorted(100), Ok(()));
        assert_eq!(count(&open(&ledger).unwrap()), 3679);
    }

    #[test]
    fn the_limits_do_not_keep_a_wide_ledger_of_ones_own_out() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path());
        let more: String = (0..100).map(|n| format!(", more_{n} TEXT")).collect();
        let own = Connection::open(&ledger.path).unwrap();
        own.execute_batch(&format!(
            "CREATE TABLE expenses (date TEXT, department TEXT, category TEXT, vendor TEXT, amount_cents INTEGER{more});
             INSERT INTO expenses (date, amount_cents) VALUES ('2024-01-01', 1);"
        ))
        .unwrap();
        assert_eq!(count(&open(&ledger).unwrap()), 1);
    }

    #[test]
    fn a_statement_ends_with_its_time_or_its_cancellation() {
        let dir = tempfile::tempdir().unwrap();
        let endless =
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n";
        let run = |reader: Reader| {
            let error = reader
                .connection
                .query_row(endless, [], |row| row.get::<_, i64>(0))
                .unwrap_err();
            reader.failure(&error)
        };
        let ledger = Ledger::new(dir.path());
        let failure = run(ledger
            .open(CancellationToken::new(), Duration::from_millis(50))
            .unwrap());
        assert!(failure.message.contains("too long"), "{failure}");

        let stop = CancellationToken::new();
        let reader = ledger.open(stop.clone(), Duration::from_secs(600)).unwrap();
        let running = std::thread::spawn(move || run(reader));
        stop.cancel();
        assert_eq!(running.join().unwrap().code, ErrorCode::Cancelled);
    }
}
