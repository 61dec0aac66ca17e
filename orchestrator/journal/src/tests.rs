pub(crate) mod disk;

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use amcp_protocol::RequestId;
use redb::{Database, ReadableTable, TableDefinition};
use uuid::Uuid;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn id(n: u128) -> RequestId {
    RequestId::from_uuid(Uuid::from_u128(n))
}

fn record(request: RequestId, epoch: u64, step: Step, body: &str) -> Record {
    Record {
        request,
        epoch,
        unix_ms: 1_000,
        step,
        body: body.as_bytes().to_vec(),
    }
}

fn send(journal: &FileJournal, record: Record) -> Receiver<Result<(), Refusal>> {
    let (kept, outcome) = channel();
    journal.append(record, Box::new(move |outcome| drop(kept.send(outcome))));
    outcome
}

fn put(journal: &FileJournal, request: u128, step: Step, body: &str) -> Result<(), Refusal> {
    let record = record(id(request), journal.epoch(), step, body);
    let outcome = send(journal, record).recv_timeout(DEADLINE);
    outcome.expect("the thread answers")
}

fn opens() -> Step {
    Step::Opens(b"a key".to_vec())
}

fn open(folder: &Path) -> (FileJournal, Vec<(RequestId, Head)>) {
    FileJournal::open(folder, Retention::default()).unwrap()
}

fn texts(journal: &FileJournal, request: u128) -> Vec<String> {
    let bodies = journal.read(id(request)).unwrap().into_iter();
    bodies
        .map(|body| String::from_utf8(body).unwrap())
        .collect()
}

#[test]
fn records_are_there_again_with_the_next_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, heads) = open(folder.path());
    assert!(heads.is_empty());
    put(&journal, 1, opens(), "a").unwrap();
    put(&journal, 1, Step::Continues, "b").unwrap();
    put(&journal, 2, opens(), "c").unwrap();
    put(&journal, 2, Step::Ends, "d").unwrap();
    let first = journal.epoch();
    drop(journal);
    let (journal, heads) = open(folder.path());
    assert!(journal.epoch() > first);
    assert_eq!(texts(&journal, 1), ["a", "b"]);
    assert_eq!(texts(&journal, 2), ["c", "d"]);
    let ends: Vec<_> = heads.iter().map(|(_, head)| head.ended_ms).collect();
    assert_eq!(ends, [None, Some(1_000)]);
    assert_eq!(heads[0].1.mark, b"a key");
    assert!(texts(&journal, 3).is_empty());
}

#[test]
fn a_request_takes_no_record_out_of_turn() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let refused = |outcome| matches!(outcome, Err(Refusal::Superseded(_)));
    assert!(refused(put(&journal, 1, Step::Continues, "unknown")));
    put(&journal, 1, opens(), "a").unwrap();
    assert!(refused(put(&journal, 1, opens(), "again")));
    put(&journal, 1, Step::Ends, "answered").unwrap();
    assert!(refused(put(&journal, 1, Step::Ends, "answered again")));
    put(&journal, 2, opens(), "a").unwrap();
    drop(journal);
    let (journal, _) = open(folder.path());
    put(&journal, 2, Step::Continues, "the later owner's").unwrap();
    let late = record(
        id(2),
        journal.epoch() - 1,
        Step::Ends,
        "the earlier owner's",
    );
    assert!(refused(
        send(&journal, late).recv_timeout(DEADLINE).unwrap()
    ));
    assert_eq!(texts(&journal, 2), ["a", "the later owner's"]);
}

#[test]
fn a_request_that_ends_its_owners_is_counted_until_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    put(&open(folder.path()).0, 1, opens(), "a").unwrap();
    let tries = || open(folder.path()).1[0].1.tries;
    // A start that does not begin the request is none.
    assert_eq!([tries(), tries()], [0, 0]);
    for nth in [1, 2] {
        put(&open(folder.path()).0, 1, Step::Resumes, "").unwrap();
        assert_eq!(tries(), nth);
    }
    assert_eq!(texts(&open(folder.path()).0, 1), ["a"]);
    put(&open(folder.path()).0, 1, Step::Continues, "b").unwrap();
    assert_eq!(tries(), 0);
}

/// What becomes of records whose commit is in the file, although the store says otherwise.
fn after(fault: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let fault = folder.path().join(fault);
    put(&journal, 1, opens(), "a").unwrap();
    put(&journal, 2, opens(), "a").unwrap();
    let fails = |request, step, body: &str| {
        std::fs::write(&fault, "").unwrap();
        let kept = send(&journal, record(id(request), journal.epoch(), step, body));
        let begun = std::time::Instant::now();
        while journal.trouble().is_none() {
            assert!(begun.elapsed() < DEADLINE, "nothing failed");
            std::thread::yield_now();
        }
        std::fs::remove_file(&fault).unwrap();
        kept.recv_timeout(DEADLINE).expect("the thread answers")
    };
    fails(1, Step::Continues, "b").unwrap();
    assert_eq!(texts(&journal, 1), ["a", "b"], "once only");
    assert_eq!(journal.trouble(), None);
    let refused = fails(3, opens(), "refused").unwrap_err();
    assert!(matches!(refused, Refusal::Unwritable(_)), "{refused:?}");
    // Waits until the journal can be written again.
    put(&journal, 2, Step::Ends, "c").unwrap();
    assert_eq!(texts(&journal, 2), ["a", "c"]);
    fails(1, Step::Ends, "d").unwrap();
    drop(journal);
    let (journal, heads) = open(folder.path());
    assert_eq!(texts(&journal, 1), ["a", "b", "d"]);
    let known: Vec<_> = heads.iter().map(|(request, _)| *request).collect();
    assert_eq!(known, [id(1), id(2)], "the third was refused");
}

#[test]
fn a_commit_that_fails_and_is_there_counts_once_and_refused_requests_are_gone() {
    after(disk::UNSYNCED);
}

#[test]
fn a_store_that_panics_is_one_that_cannot_be_written() {
    after(disk::PANICS);
}

#[test]
fn a_damaged_head_costs_its_request_only() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    put(&journal, 1, opens(), "a").unwrap();
    put(&journal, 2, opens(), "a").unwrap();
    drop(journal);
    let database = Database::open(folder.path().join("journal.redb")).unwrap();
    let begun = database.begin_write().unwrap();
    {
        let heads: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("heads");
        let nothing: &[u8] = &[];
        begun.open_table(heads).unwrap().insert(1, nothing).unwrap();
    }
    begun.commit().unwrap();
    drop(database);
    let (journal, heads) = open(folder.path());
    let known: Vec<_> = heads.iter().map(|(request, _)| *request).collect();
    assert_eq!(known, [id(2)]);
    put(&journal, 2, Step::Ends, "b").unwrap();
}

#[test]
fn another_owner_is_refused_and_told_of_the_holder() {
    let folder = tempfile::tempdir().unwrap();
    let (_journal, _) = open(folder.path());
    let refused = FileJournal::open(folder.path(), Retention::default()).unwrap_err();
    let holder = std::process::id().to_string();
    assert!(matches!(&refused, JournalError::Held { holder: h, .. } if *h == holder));
    assert!(FileJournal::verify(folder.path()).is_err());
}

#[test]
fn the_oldest_ended_requests_go_and_open_ones_and_marks_stay() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention {
        requests: 2,
        ..Retention::default()
    };
    let (journal, _) = FileJournal::open(folder.path(), retention).unwrap();
    put(&journal, 1, opens(), "open").unwrap();
    for request in 2..8 {
        let mark = if request == 3 {
            b"key".to_vec()
        } else {
            Vec::new()
        };
        put(&journal, request, Step::Opens(mark), "a").unwrap();
        put(&journal, request, Step::Ends, "b").unwrap();
    }
    // The bound counts those that ended before a commit.
    put(&journal, 1, Step::Continues, "still open").unwrap();
    assert_eq!(texts(&journal, 1), ["open", "still open"]);
    assert!(texts(&journal, 5).is_empty());
    assert_eq!(texts(&journal, 6), ["a", "b"]);
    drop(journal);
    let (journal, heads) = FileJournal::open(folder.path(), retention).unwrap();
    let left: Vec<_> = heads.iter().map(|(request, _)| *request).collect();
    assert_eq!(left, [id(1), id(3), id(6), id(7)]);
    assert!(heads[1].1.dropped);
    // A day later the mark goes too.
    let mut late = record(id(1), journal.epoch(), Step::Continues, "a day later");
    late.unix_ms += 24 * 60 * 60 * 1_000 + 1_000;
    send(&journal, late)
        .recv_timeout(DEADLINE)
        .unwrap()
        .unwrap();
    drop(journal);
    let (_, heads) = FileJournal::open(folder.path(), retention).unwrap();
    assert!(!heads.iter().any(|(request, _)| *request == id(3)));
}

/// A journal of one open and one ended request, changed while nobody has it.
fn damaged(change: impl FnOnce(&mut redb::Table<'_, (u128, u32), &[u8]>)) -> Verified {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    for request in [1, 2] {
        put(&journal, request, opens(), "accepted").unwrap();
        put(&journal, request, Step::Continues, "planned").unwrap();
        put(&journal, request, Step::Continues, "done").unwrap();
    }
    drop(journal);
    let database = Database::open(folder.path().join("journal.redb")).unwrap();
    let begun = database.begin_write().unwrap();
    {
        let records: TableDefinition<'_, (u128, u32), &[u8]> = TableDefinition::new("records");
        change(&mut begun.open_table(records).unwrap());
    }
    begun.commit().unwrap();
    drop(database);
    FileJournal::verify(folder.path()).unwrap()
}

#[test]
fn a_damaged_record_is_named_and_the_other_requests_are_read() {
    let whole = damaged(|_| {});
    assert_eq!((whole.requests, whole.open, whole.records), (2, 2, 6));
    assert!(whole.damages.is_empty());
    let find = |verified: Verified, named: &str| {
        assert_eq!(verified.records, 3, "the other request is whole");
        let [JournalError::Damaged { request, place, .. }] = verified.damages.as_slice() else {
            panic!("{:?}", verified.damages);
        };
        assert_eq!((*request, place.as_str()), (id(1), named));
    };
    for bit in [0, 33, 45, 50] {
        let flipped = damaged(|records| {
            let mut kept = records.get((1, 1)).unwrap().unwrap().value().to_vec();
            kept[bit] ^= 4;
            records.insert((1, 1), kept.as_slice()).unwrap();
        });
        find(flipped, "record 1");
    }
    let removed = damaged(|records| drop(records.remove((1, 1)).unwrap()));
    find(removed, "record 1");
    let cut = damaged(|records| drop(records.remove((1, 2)).unwrap()));
    find(cut, "record 2");
    let emptied = damaged(|records| {
        let nothing: &[u8] = &[];
        records.insert((1, 0), nothing).unwrap();
    });
    find(emptied, "record 0");
    let swapped = damaged(|records| {
        let value = |records: &redb::Table<'_, (u128, u32), &[u8]>, number| {
            records.get((1, number)).unwrap().unwrap().value().to_vec()
        };
        let (a, b) = (value(records, 1), value(records, 2));
        records.insert((1, 1), b.as_slice()).unwrap();
        records.insert((1, 2), a.as_slice()).unwrap();
    });
    find(swapped, "record 1");
    let of_another = damaged(|records| {
        let other = records.get((2, 1)).unwrap().unwrap().value().to_vec();
        records.insert((1, 1), other.as_slice()).unwrap();
    });
    find(of_another, "record 1");
}

/// Flips, zeroes and cuts the file at places drawn from a fixed seed: the journal is refused, or reads what was written.
#[test]
fn a_damaged_file_is_refused_or_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    for request in 0..40 {
        put(&journal, request, opens(), &"words ".repeat(100)).unwrap();
        put(&journal, request, Step::Ends, "end").unwrap();
    }
    drop(journal);
    let file = folder.path().join("journal.redb");
    let whole = std::fs::read(&file).unwrap();
    let mut draw = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for round in 0..60 {
        let mut bytes = whole.clone();
        let at = draw.usize(..bytes.len());
        match round % 3 {
            0 => bytes[at] ^= 1 << draw.u8(..8),
            1 => bytes
                .iter_mut()
                .skip(at)
                .take(4_096)
                .for_each(|byte| *byte = 0),
            _ => bytes.truncate(at),
        }
        std::fs::write(&file, &bytes).unwrap();
        match FileJournal::verify(folder.path()) {
            Err(_) => refused += 1,
            Ok(verified) if !verified.damages.is_empty() => refused += 1,
            Ok(verified) => assert_eq!((verified.requests, verified.records), (40, 80)),
        }
    }
    assert!(refused >= 20, "{refused} of 60");
}

#[test]
fn a_full_disk_refuses_what_is_new_and_holds_the_rest_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    put(&journal, 1, opens(), "a").unwrap();
    let full = folder.path().join(disk::FULL);
    std::fs::write(&full, "").unwrap();
    let waits = send(
        &journal,
        record(id(1), journal.epoch(), Step::Continues, "b"),
    );
    let refused = put(&journal, 2, opens(), "refused").unwrap_err();
    assert!(matches!(&refused, Refusal::Unwritable(reason) if reason.contains("No space left")));
    assert!(journal.trouble().is_some());
    assert!(waits.try_recv().is_err());
    std::fs::remove_file(&full).unwrap();
    waits.recv_timeout(DEADLINE).unwrap().unwrap();
    assert_eq!(journal.trouble(), None);
    put(&journal, 2, opens(), "accepted").unwrap();
    drop(journal);
    let (journal, _) = open(folder.path());
    assert_eq!(texts(&journal, 1), ["a", "b"]);
    assert_eq!(texts(&journal, 2), ["accepted"]);
}
