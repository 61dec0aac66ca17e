use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::thread;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::store::{Followed, follow};
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn ana() -> NewKey {
    NewKey {
        user: "ana".to_owned(),
        roles: vec!["analyst".to_owned()],
        ..NewKey::default()
    }
}

#[test]
fn a_key_proves_its_user_and_roles() {
    let mut ring = KeyRing::default();
    let (text, key) = ring.create(ana(), at(0)).unwrap();
    let principal = ring.check(&text, at(1)).unwrap();
    assert_eq!(
        *principal,
        Principal {
            user: "ana".to_owned(),
            roles: vec!["analyst".to_owned()],
            by: Proof::Key(key.id.clone()),
        }
    );
    assert!(is_key(&text) && text.starts_with(&format!("amcp_{}_", key.id)));
    assert!(!format!("{ring:?}").contains(&text), "no text in memory");
}

#[test]
fn texts_that_are_no_key_or_another_are_refused() {
    let mut ring = KeyRing::default();
    let (text, key) = ring.create(ana(), at(0)).unwrap();
    let (other, _) = ring.create(ana(), at(0)).unwrap();
    let (_, foreign) = parts(&other).unwrap();
    let last = if text.ends_with('0') { '1' } else { '0' };
    let changed = format!("{}{last}", &text[..text.len() - 1]);
    for (wrong, refusal) in [
        (format!("amcp_{}_{foreign}", key.id), Refusal::UnknownKey),
        (format!("amcp_00000000_{foreign}"), Refusal::UnknownKey),
        (changed, Refusal::UnknownKey),
        (format!("{text}0"), Refusal::Malformed),
        (text[..text.len() - 1].to_owned(), Refusal::Malformed),
        (text.replace('_', "-"), Refusal::Malformed),
        (format!("amcp_{}_", key.id), Refusal::Malformed),
        ("amcp__".to_owned(), Refusal::Malformed),
        (String::new(), Refusal::Malformed),
        ("ä".repeat(60), Refusal::Malformed),
    ] {
        assert_eq!(ring.check(&wrong, at(1)).unwrap_err(), refusal, "{wrong}");
    }
}

#[test]
fn a_key_ends_when_it_expires_is_revoked_or_replaced() {
    let mut ring = KeyRing::default();
    let expiring = NewKey {
        lifetime: Some(DAY),
        ..ana()
    };
    let (old, key) = ring.create(expiring, at(0)).unwrap();
    let (new, _) = ring.rotate(&key.id, DAY / 4, at(100)).unwrap();
    let valid = |ring: &KeyRing, text: &str, seconds| ring.check(text, at(seconds)).is_ok();
    // Both are valid in the overlap; the new one as long as the old one was.
    assert!(valid(&ring, &old, 100 + 21_599) && !valid(&ring, &old, 100 + 21_600));
    assert!(valid(&ring, &new, 100 + 86_399) && !valid(&ring, &new, 100 + 86_400));
    // Whoever lost the new key replaces the old one again: that key does not end with the overlap.
    let (again, _) = ring.rotate(&key.id, DAY, at(200)).unwrap();
    assert!(valid(&ring, &again, 200 + 86_399) && !valid(&ring, &again, 200 + 86_400));
    assert!(!valid(&ring, &old, 100 + 21_600), "its end stays");
    // A rotation prolongs no life.
    let (id, _) = parts(&new).unwrap();
    ring.rotate(id, DAY, at(100 + 86_399)).unwrap();
    assert!(!valid(&ring, &new, 100 + 86_400));
    let (text, key) = ring.create(ana(), at(0)).unwrap();
    assert!(valid(&ring, &text, 1_000_000));
    ring.revoke(&key.id, at(500)).unwrap();
    let ended = Refusal::EndedKey {
        id: key.id.clone(),
        at: at(500),
    };
    // A clock that was set back revives no key that somebody ended.
    for seconds in [500, 499, -1_000_000] {
        assert_eq!(ring.check(&text, at(seconds)).unwrap_err(), ended);
    }
    assert!(ring.keys().iter().any(|old| old.has_ended(at(-1_000_000))));
    let (text, replaced) = ring.create(ana(), at(0)).unwrap();
    ring.rotate(&replaced.id, Duration::ZERO, at(500)).unwrap();
    assert!(!valid(&ring, &text, 499), "without an overlap");
    for again in [
        ring.revoke(&key.id, at(501)),
        ring.rotate(&key.id, DAY, at(501)).map(|(_, key)| key),
    ] {
        assert!(matches!(again, Err(KeyError::Ended { .. })), "{again:?}");
    }
    let missing = ring.revoke("00000000", at(501));
    assert!(matches!(missing, Err(KeyError::Unknown(_))));
}

#[test]
fn unusable_names_and_too_many_keys_are_refused_and_ended_ones_make_room() {
    let mut ring = KeyRing::default();
    let nobody = ring.create(NewKey::default(), at(0));
    assert!(matches!(nobody, Err(KeyError::Name(NameError::User))));
    let endless = NewKey {
        lifetime: Some(Duration::MAX),
        ..ana()
    };
    assert!(matches!(
        ring.create(endless, at(0)),
        Err(KeyError::TooLong)
    ));
    let (_, first) = ring.create(ana(), at(0)).unwrap();
    for _ in 1..MAX_KEYS {
        ring.create(ana(), at(0)).unwrap();
    }
    assert!(matches!(ring.create(ana(), at(0)), Err(KeyError::Full)));
    ring.revoke(&first.id, at(0)).unwrap();
    let kept = i64::try_from(KEPT.as_secs()).unwrap();
    assert!(ring.create(ana(), at(kept - 1)).is_err());
    assert!(ring.create(ana(), at(kept)).is_ok());
}

#[test]
fn random_texts_use_the_whole_alphabet_evenly() {
    let text = random(62 * 400);
    let of = |letter: &u8| text.bytes().filter(|byte| byte == letter).count();
    let (least, most) = (ALPHABET.iter().map(of).min(), ALPHABET.iter().map(of).max());
    // Twenty standard deviations of 20: a letter that 256 % 62 favours would have 484 of 400.
    assert!(least > Some(300) && most < Some(500), "{least:?} {most:?}");
}

#[test]
fn the_file_is_private_and_keeps_the_keys_of_all_who_write_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = KeyFile::in_data(&data);
    assert!(file.read().unwrap().keys().is_empty());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    file.change(|ring| ring.create(ana(), at(0))).unwrap();
                }
            });
        }
    });
    assert_eq!(file.read().unwrap().keys().len(), 40);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("keys.json")), 0o600);
    let names = fs::read_dir(&data).unwrap().count();
    assert_eq!(names, 2, "no temporary file stays");
}

#[test]
fn what_root_makes_belongs_to_the_user_of_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    // Only root can give a folder away, and only root's files would lock the node out.
    if chown(folder.path(), Some(12_345), Some(12_345)).is_err() {
        return;
    }
    let file = KeyFile::in_data(folder.path());
    file.change(|ring| ring.create(ana(), at(0))).unwrap();
    for name in ["keys.json", "keys.lock"] {
        let about = fs::metadata(folder.path().join(name)).unwrap();
        assert_eq!((about.uid(), about.gid()), (12_345, 12_345), "{name}");
    }
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::in_data(folder.path());
    let (text, _) = file.change(|ring| ring.create(ana(), at(0))).unwrap();
    let before = fs::read(folder.path().join("keys.json")).unwrap();
    let failed = file.change(|ring| {
        ring.create(ana(), at(1))?;
        ring.revoke("00000000", at(1))
    });
    assert!(failed.is_err());
    let after = fs::read(folder.path().join("keys.json")).unwrap();
    assert_eq!(before, after);
    let stored = String::from_utf8(after).unwrap();
    let (_, secret) = parts(&text).unwrap();
    assert!(!stored.contains(secret), "no secret in the file");
}

#[test]
fn contents_that_are_no_keys_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let key = |id: &str, sha256: &str| {
        format!(
            r#"{{"id":"{id}","user":"ana","created":"2027-01-15T08:00:00Z","sha256":"{sha256}"}}"#
        )
    };
    let good = key("a", &"0".repeat(64));
    for (text, reason) in [
        (String::new(), "EOF"),
        (r#"{"version":2,"keys":[]}"#.to_owned(), "version 1"),
        (
            format!(r#"{{"version":1,"keys":[{good},{good}]}}"#),
            "two keys",
        ),
        (
            format!(r#"{{"version":1,"keys":[{}]}}"#, key("b", "00")),
            "key b: its sha256",
        ),
        (good.replace("ana", ""), "version"),
        (
            format!(r#"{{"version":1,"keys":[{}]}}"#, good.replace("ana", "")),
            "user's name",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let error = KeyFile::in_data(folder.path()).read().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    fs::write(&path, format!(r#"{{"version":1,"keys":[{good}]}}"#)).unwrap();
    assert!(KeyFile::in_data(folder.path()).read().is_ok());
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
fn a_running_node_follows_the_file_and_keeps_the_last_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::in_data(folder.path());
    let keys = Keys::open(file.clone()).unwrap();
    assert!(!keys.has_any(at(0)));
    let (text, key) = file.change(|ring| ring.create(ana(), at(0))).unwrap();
    soon("the new key is taken", || keys.check(&text, at(1)).is_ok());
    assert!(keys.has_any(at(1)));
    let path = folder.path().join("keys.json");
    let good = fs::read(&path).unwrap();
    fs::write(&path, "{").unwrap();
    let broken = file.read().unwrap_err().to_string();
    let mut followed = Followed::default();
    let mine = ArcSwap::from_pointee(KeyRing::default());
    follow(&file, &mut followed, &mine);
    assert_eq!(followed.trouble, Some(broken));
    assert!(
        keys.check(&text, at(1)).is_ok(),
        "the last good file counts"
    );
    fs::write(&path, good).unwrap();
    file.change(|ring| ring.revoke(&key.id, at(2))).unwrap();
    soon("the revoked key is refused", || {
        keys.check(&text, at(2)).is_err()
    });
    // A file that somebody removed has no keys.
    let (text, _) = file.change(|ring| ring.create(ana(), at(3))).unwrap();
    soon("the next key is taken", || keys.check(&text, at(3)).is_ok());
    fs::remove_file(path).unwrap();
    soon("no key is left", || keys.check(&text, at(3)).is_err());
}
