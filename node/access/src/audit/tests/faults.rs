//! What crashes, full disks, other users and lost files do to a log.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown, symlink};

use super::super::verify::steady;
use super::*;

#[test]
fn a_head_that_a_crash_left_half_written_is_no_forgery() {
    let place = ten();
    let mut heads = fs::File::options()
        .append(true)
        .open(&place.rules.anchors)
        .unwrap();
    heads.write_all(br#"{"seq":8,"ha"#).unwrap();
    let anchored = || place.verify().unwrap().anchored.map(|(seq, _)| seq);
    assert_eq!(anchored(), Some(8));
    let mut log = Log::open(place.rules.clone()).unwrap();
    log.append(&entries(1)).unwrap();
    // Of another process, while this one runs.
    heads.write_all(br#"{"seq":8,"ha"#).unwrap();
    log.anchor().unwrap();
    assert_eq!(anchored(), Some(11));
}

#[test]
fn heads_that_are_missing_are_no_heads_that_nobody_signed() {
    let place = ten();
    let key = PublicKey::of_log(&place.rules.folder).unwrap();
    let elsewhere = place.rules.folder.join("elsewhere");
    assert!(verify(&place.rules.folder, &elsewhere, &key).is_err());
    fs::remove_file(&place.rules.anchors).unwrap();
    assert!(verify(&place.rules.folder, &place.rules.anchors, &key).is_err());
    assert!(Log::open(place.rules.clone()).is_err());
    // A log that has just begun has none, and no fault.
    let new = Place::new();
    Log::open(new.rules.clone()).unwrap();
    assert_eq!(new.verify(), Ok(Verified::default()));
}

#[test]
fn a_lost_key_is_not_replaced_where_it_signed() {
    let place = ten();
    let public = place.rules.folder.join("anchor.pub");
    let before = fs::read(&public).unwrap();
    fs::remove_file(place.rules.folder.join("anchor.key")).unwrap();
    let refused = Log::open(place.rules.clone());
    assert!(
        matches!(refused, Err(AuditError::Key { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(&public).unwrap(), before);
    fs::remove_file(public).unwrap();
    assert!(Log::open(place.rules.clone()).is_err());
}

#[test]
fn the_public_key_is_written_once() {
    let place = ten();
    let seen = || {
        let about = fs::metadata(place.rules.folder.join("anchor.pub")).unwrap();
        (about.ino(), about.modified().unwrap())
    };
    let before = seen();
    Log::open(place.rules.clone()).unwrap();
    assert_eq!(seen(), before);
}

#[test]
fn heads_leave_with_the_records_that_they_signed() {
    let mut place = Place::new();
    (place.rules.file_bytes, place.rules.keep_files) = (1_000, 3);
    let mut log = Log::open(place.rules.clone()).unwrap();
    for _ in 0..12 {
        log.append(&entries(3)).unwrap();
        log.anchor().unwrap();
    }
    let (first, _) = place.verify().unwrap().records.unwrap();
    let heads = fs::read_to_string(&place.rules.anchors).unwrap();
    let of = |line: &str| line.split([':', ',']).nth(1).unwrap().parse().unwrap();
    let least: u64 = heads.lines().map(of).min().unwrap();
    assert!(first > 3 && least == first - 1, "{least} {first}");
}

#[test]
fn a_file_that_leaves_while_the_log_is_read_is_read() {
    let mut place = Place::new();
    (place.rules.file_bytes, place.rules.keep_files) = (1_000, 2);
    let mut log = Log::open(place.rules.clone()).unwrap();
    log.append(&entries(3)).unwrap();
    let (_, opened) = steady(&place.rules.folder, || Ok(())).unwrap();
    for _ in 0..2 {
        log.append(&entries(3)).unwrap();
    }
    let (path, mut file) = opened.into_iter().next().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert!(!path.exists() && text.lines().count() == 3, "{text}");
}

#[test]
fn a_crash_between_two_removals_leaves_a_signed_beginning() {
    let mut place = Place::new();
    place.rules.file_bytes = 1_000;
    let mut log = Log::open(place.rules.clone()).unwrap();
    for _ in 0..4 {
        log.append(&entries(3)).unwrap();
    }
    let (second, _) = files(&place.rules.folder).unwrap().remove(1);
    let saved = fs::read(&second).unwrap();
    // Another name for the file of heads keeps those that leave with the records.
    let heads = place.rules.folder.join("heads");
    fs::hard_link(&place.rules.anchors, &heads).unwrap();
    place.rules.keep_files = 3;
    let mut log = Log::open(place.rules.clone()).unwrap();
    log.append(&entries(3)).unwrap();
    let kept = files(&place.rules.folder).unwrap().len();
    assert!(kept == 3 && !second.exists(), "two went, {kept} stay");
    fs::write(second, saved).unwrap();
    let key = PublicKey::of_log(&place.rules.folder).unwrap();
    let verified = verify(&place.rules.folder, &heads, &key).unwrap();
    assert_eq!(verified.unwrap().records, Some((4, 15)));
}

#[test]
fn records_that_cannot_be_written_leave_no_texts() {
    let mut place = Place::new();
    place.rules.file_bytes = 1;
    let mut log = Log::open(place.rules.clone()).unwrap();
    log.append(&entries(1)).unwrap();
    // The next file is on a full disk, its texts are not.
    let next = place.rules.folder.join(format!("{:020}.log", 2));
    symlink("/dev/full", &next).unwrap();
    for _ in 0..3 {
        assert!(log.append(&entries(2)).is_err());
    }
    let texts = fs::metadata(next.with_extension("texts")).unwrap();
    assert_eq!(texts.len(), 0);
}

#[test]
fn a_byte_that_is_no_text_is_named() {
    let place = ten();
    let path = place.first_file();
    let mut bad = fs::read(&path).unwrap();
    bad[5] = 0xff;
    fs::write(&path, &bad).unwrap();
    // The end is sound, so that records can follow.
    assert!(Log::open(place.rules.clone()).is_ok());
    let flaw = place.verify().unwrap_err().to_string();
    assert!(flaw.contains("record 1: it was changed"), "{flaw}");
    let end = bad.len() - 5;
    bad[end] = 0xff;
    fs::write(&path, &bad).unwrap();
    let refused = Log::open(place.rules.clone());
    assert!(
        matches!(refused, Err(AuditError::End { .. })),
        "{refused:?}"
    );
    let mut heads = fs::read(&place.rules.anchors).unwrap();
    heads[5] = 0xff;
    fs::write(&place.rules.anchors, heads).unwrap();
    assert_eq!(place.verify().unwrap_err().fault, Fault::Anchor);
}

#[test]
fn a_log_that_root_opens_belongs_to_the_user_of_the_data_folder() {
    let place = Place::new();
    let data = place.rules.folder.parent().unwrap();
    fs::create_dir(data).unwrap();
    // Only root can give a folder away, and only root's files would lock the node out.
    if chown(data, Some(12_345), Some(12_345)).is_err() {
        return;
    }
    let audit = Audit::open(place.rules.clone()).unwrap();
    audit.record(entry(1)).unwrap();
    audit.close().unwrap();
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&place.rules.folder), 12_345);
    for file in fs::read_dir(&place.rules.folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(owner(&path), 12_345, "{}", path.display());
    }
}
