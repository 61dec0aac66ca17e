mod faults;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use amcp_protocol::{Payload, Principal, Proof};
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use super::log::{Log, files};
use super::record::Head;
use super::*;

struct Place {
    _folder: TempDir,
    rules: AuditRules,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            rules: AuditRules::in_data(&folder.path().join("data")),
            _folder: folder,
        }
    }

    fn verify(&self) -> Result<Verified, Flaw> {
        let key = PublicKey::of_log(&self.rules.folder).unwrap();
        verify(&self.rules.folder, &self.rules.anchors, &key).unwrap()
    }

    fn first_file(&self) -> PathBuf {
        files(&self.rules.folder).unwrap().remove(0).0
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.first_file()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn put(&self, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.first_file(), text).unwrap();
    }
}

fn entry(number: u64) -> Entry {
    Entry {
        by: Some(std::sync::Arc::new(Principal {
            user: "ana".to_owned(),
            roles: Vec::new(),
            by: Proof::Key("k".to_owned()),
        })),
        params: Some(Payload::from(json!({"quarter": number}))),
        outcome: Some(format!("done {number}")),
        text: Some(format!("question {number}")),
        ..Entry::new(What::TaskEnded)
    }
}

fn entries(count: u64) -> Vec<(Timestamp, Entry)> {
    (1..=count)
        .map(|number| (Timestamp::now(), entry(number)))
        .collect()
}

/// A log of ten records, of which the first eight are anchored.
fn ten() -> Place {
    let place = Place::new();
    let mut log = Log::open(place.rules.clone()).unwrap();
    log.append(&entries(8)).unwrap();
    log.anchor().unwrap();
    log.append(&entries(2)).unwrap();
    place
}

#[test]
fn a_sound_log_says_what_is_anchored() {
    let place = ten();
    let verified = place.verify().unwrap();
    assert_eq!(verified.records, Some((1, 10)));
    assert_eq!(verified.anchored.map(|(seq, _)| seq), Some(8));
    assert!(
        verified.to_string().contains("9 to 10 are not yet"),
        "{verified}"
    );
    assert_eq!(Place::new().rules.keep_files, 64);
}

#[test]
fn each_changed_byte_is_found() {
    let place = ten();
    let path = place.first_file();
    let good = fs::read(&path).unwrap();
    // Every byte of records 5 and 10, the end of the file, and each bit of a few.
    let line = good.len() / 10;
    let bytes = (line * 4..line * 5).chain(good.len() - line..good.len());
    for at in bytes {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 7);
        fs::write(&path, &bad).unwrap();
        let flaw = place.verify().unwrap_err();
        assert!(
            matches!(flaw.fault, Fault::Record { .. }),
            "byte {at}: {flaw}"
        );
    }
}

#[test]
fn each_attack_is_found_and_named() {
    type Attack = fn(&mut Vec<String>);
    let attacks: [(&str, Attack, &str); 8] = [
        (
            "a record is deleted",
            |lines| drop(lines.remove(4)),
            "records 5 to 5 are missing",
        ),
        (
            "some are deleted",
            |lines| drop(lines.drain(4..7)),
            "records 5 to 7 are missing",
        ),
        (
            "the beginning is cut",
            |lines| drop(lines.drain(..3)),
            "records 1 to 3 are missing",
        ),
        (
            "two are swapped",
            |lines| lines.swap(3, 4),
            "records 4 to 4 are missing",
        ),
        (
            "one is repeated",
            |lines| lines.insert(4, lines[2].clone()),
            "record 3 stands where record 5 should",
        ),
        (
            "the anchored end is cut",
            |lines| lines.truncate(7),
            "ends with record 7, but record 8 was signed",
        ),
        (
            "all is deleted",
            |lines| lines.clear(),
            "ends with record 0, but record 8 was signed",
        ),
        (
            "a line is foreign",
            |lines| lines[6] = "{}".to_owned(),
            "record 7: it is no record",
        ),
    ];
    for (attack, change, said) in attacks {
        let place = ten();
        let mut lines = place.lines();
        change(&mut lines);
        place.put(&lines);
        let flaw = place.verify().expect_err(attack).to_string();
        assert!(flaw.contains(said), "{attack}: {flaw}");
    }
}

#[test]
fn a_forged_record_breaks_the_chain_before_it_or_after_it() {
    let forged = |seq: u64, lines: &[String]| {
        let (before, head) = record::read(&format!("{}\n", lines[1])).unwrap();
        assert_eq!(before.seq, 2);
        let head = Head {
            seq: seq - 1,
            ..head
        };
        let record = head.record(entry(99), Timestamp::now(), None);
        record::line(&record).0.trim_end().to_owned()
    };
    // Its own hash is right.
    for (seq, at, said) in [
        (3, 2, "record 4 does not follow"),
        (5, 4, "record 5 does not follow"),
    ] {
        let place = ten();
        let mut lines = place.lines();
        lines[at] = forged(seq, &lines);
        place.put(&lines);
        let flaw = place.verify().unwrap_err().to_string();
        assert!(flaw.contains(said), "{flaw}");
    }
}

#[test]
fn a_log_that_was_written_anew_is_found_by_its_anchors() {
    let place = ten();
    let (other, mut lines) = (ten(), place.lines());
    // A whole chain, sound in itself.
    lines.clone_from(&other.lines());
    place.put(&lines);
    let flaw = place.verify().unwrap_err().to_string();
    assert!(
        flaw.contains("record 8 is not the one whose hash was signed"),
        "{flaw}"
    );
    // Anchors of another key, put beside it.
    fs::copy(&other.rules.anchors, &place.rules.anchors).unwrap();
    assert_eq!(place.verify().unwrap_err().fault, Fault::Anchor);
    // With that key beside the log everything fits; a copy of the true key tells.
    let key = PublicKey::of_log(&place.rules.folder).unwrap();
    let public = "anchor.pub";
    fs::copy(
        other.rules.folder.join(public),
        place.rules.folder.join(public),
    )
    .unwrap();
    assert!(place.verify().is_ok());
    let pinned = verify(
        &place.rules.folder,
        &place.rules.anchors,
        &PublicKey::new(key.as_str()),
    );
    assert_eq!(pinned.unwrap().unwrap_err().fault, Fault::Anchor);
}

#[test]
fn an_end_that_was_cut_keeps_the_node_from_going_on() {
    let place = ten();
    let lines = place.lines();
    place.put(&lines[..7]);
    let refused = Log::open(place.rules.clone());
    assert!(
        matches!(refused, Err(AuditError::Cut { last: 7, known: 8 })),
        "{refused:?}"
    );
    // Nor does a running node go on where somebody cut.
    place.put(&lines);
    let mut log = Log::open(place.rules.clone()).unwrap();
    place.put(&lines[..9]);
    let refused = log.append(&entries(1));
    assert!(
        matches!(refused, Err(AuditError::Cut { last: 9, known: 10 })),
        "{refused:?}"
    );
    // What is not anchored yet can be cut unnoticed: `verify` says where that begins.
    place.put(&lines[..9]);
    assert_eq!(place.verify().unwrap().records, Some((1, 9)));
}

#[test]
fn a_record_that_a_crash_left_half_written_is_cut_off_and_others_follow() {
    let place = ten();
    let path = place.first_file();
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 30]).unwrap();
    assert!(
        place
            .verify()
            .unwrap_err()
            .to_string()
            .contains("record 10: it has no end")
    );
    let mut log = Log::open(place.rules.clone()).unwrap();
    log.append(&entries(2)).unwrap();
    assert_eq!(place.verify().unwrap().records, Some((1, 11)));
}

#[test]
fn files_follow_each_other_and_old_ones_leave_a_signed_end() {
    let mut place = Place::new();
    place.rules.file_bytes = 1_000;
    place.rules.keep_files = 3;
    let mut log = Log::open(place.rules.clone()).unwrap();
    for _ in 0..12 {
        log.append(&entries(3)).unwrap();
    }
    let kept = files(&place.rules.folder).unwrap();
    assert_eq!(kept.len(), 3);
    let verified = place.verify().unwrap();
    let (first, last) = verified.records.unwrap();
    assert!(first > 1 && last == 36, "{verified}");
    let texts = fs::read_dir(&place.rules.folder).unwrap();
    let texts = texts.filter(|file| {
        file.as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|end| end == "texts")
    });
    assert_eq!(texts.count(), 3);
    // Nobody else may remove the oldest file.
    fs::remove_file(place.first_file()).unwrap();
    assert!(matches!(
        place.verify().unwrap_err().fault,
        Fault::Missing { from: 1, .. }
    ));
    // Another start finds the end.
    drop(log);
    let mut log = Log::open(place.rules.clone()).unwrap();
    log.append(&entries(1)).unwrap();
    assert_eq!(log.seq(), 37);
}

#[test]
fn processes_that_write_in_turn_make_one_chain() {
    let mut place = Place::new();
    place.rules.file_bytes = 5_000;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let audit = Audit::open(place.rules.clone()).unwrap();
                for number in 0..50 {
                    audit.record(entry(number)).unwrap();
                }
                audit.close().unwrap();
            });
        }
    });
    let verified = place.verify().unwrap();
    assert_eq!(verified.records, Some((1, 200)));
    assert_eq!(verified.anchored.map(|(seq, _)| seq), Some(200));
}

#[test]
fn texts_can_be_deleted_or_changed_without_breaking_the_chain() {
    let place = ten();
    let read = || {
        let mut found = Vec::new();
        records(&place.rules.folder, |record, text| {
            assert_eq!(record.user.as_deref(), Some("ana"));
            found.push(text.map(str::to_owned));
            true
        })
        .unwrap();
        found
    };
    assert_eq!(read()[4].as_deref(), Some("question 5"));
    assert!(
        !place.lines().concat().contains("question"),
        "no text in the chain"
    );
    let path = place.first_file().with_extension("texts");
    let texts = fs::read_to_string(&path).unwrap();
    // The same digits and letters, cut elsewhere.
    let moved = texts.replace(r#"","text":"question 5"#, r#"question","text":" 5"#);
    assert_ne!(moved, texts);
    fs::write(&path, moved).unwrap();
    assert_eq!(read()[4], None);
    let changed = texts.replace("question 5", "question 6");
    fs::write(&path, changed).unwrap();
    assert_eq!(
        (read()[4].clone(), read()[5].as_deref()),
        (None, Some("question 6"))
    );
    fs::remove_file(path).unwrap();
    assert_eq!(read(), vec![None; 10]);
    assert!(place.verify().is_ok());
}

#[test]
fn only_the_owner_reads_the_log_and_its_key() {
    let place = ten();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.rules.folder), 0o700);
    for file in fs::read_dir(&place.rules.folder).unwrap() {
        let path = file.unwrap().path();
        let is_public = path.ends_with("anchor.pub");
        assert!(is_public || mode(&path) == 0o600, "{}", path.display());
    }
}

#[track_caller]
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn a_node_that_cannot_write_refuses_requests_or_counts_what_is_lost() {
    let place = Place::new();
    let audit = Audit::open(place.rules.clone()).unwrap();
    audit.record(Entry::new(What::RequestAccepted)).unwrap();
    soon("the record is durable", || audit.durable() == 1);
    assert_eq!(audit.trouble(), None);
    // A folder in the place of the next file: it cannot be opened for writing.
    let log = place.first_file();
    let good = fs::read(&log).unwrap();
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    audit.record(Entry::new(What::TaskEnded)).unwrap();
    soon("the trouble is known", || audit.trouble().is_some());
    assert_eq!(
        audit.record(Entry::new(What::RequestAccepted)),
        Err(Unaudited)
    );
    assert_eq!(
        audit.record(Entry::new(What::TaskEnded)),
        Ok(()),
        "what is under way"
    );
    let mut refused = 0;
    while audit.record(Entry::new(What::TaskEnded)).is_ok() {
        refused += 1;
        assert!(refused < 100_000, "the queue has a bound");
    }
    fs::remove_dir(&log).unwrap();
    fs::write(&log, good).unwrap();
    soon("the trouble is over", || audit.trouble().is_none());
    assert_eq!(audit.record(Entry::new(What::RequestAccepted)), Ok(()));
    audit.close().unwrap();
    let mut lost = Vec::new();
    records(&place.rules.folder, |record, _| {
        lost.extend(record.outcome.filter(|_| record.what == What::AuditLost));
        true
    })
    .unwrap();
    assert_eq!(lost, ["1 records"]);
    assert!(place.verify().is_ok());
}

#[test]
fn a_node_ends_although_its_log_cannot_be_written() {
    let place = Place::new();
    let audit = Audit::open(place.rules.clone()).unwrap();
    let log = place.first_file();
    fs::remove_file(&log).unwrap();
    fs::create_dir(log).unwrap();
    while audit.record(Entry::new(What::TaskEnded)).is_ok() {}
    assert!(audit.close().is_err());
}
