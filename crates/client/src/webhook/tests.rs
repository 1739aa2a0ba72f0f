use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;

/// From the tests of the specification's reference libraries.
const REFERENCE: (&str, &str, &str) =
    ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
const V1: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
const SECRET_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const V1A: &str =
    "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";
const SEED: &str = "VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";

fn public_key() -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&STANDARD.decode(SEED).unwrap()).unwrap();
    format!("whpk_{}", STANDARD.encode(pair.public_key()))
}

fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
    let pairs = [(ID, id), (TIMESTAMP, timestamp), (SIGNATURE, signature)];
    pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn at(timestamp: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(timestamp).unwrap()
}

/// Verifies the reference with these signatures.
fn verify(verifier: &Verifier, signature: &str) -> Result<(), Forged> {
    let (id, timestamp, body) = REFERENCE;
    let now = at(timestamp.parse().unwrap());
    verifier.verify(&headers(id, timestamp, signature), body.as_bytes(), now)
}

#[test]
fn the_signatures_of_the_reference_libraries_are_right() {
    let (hmac, ed25519) =
        (Verifier::new(SECRET_KEY).unwrap(), Verifier::new(&public_key()).unwrap());
    assert_eq!(verify(&hmac, V1), Ok(()));
    assert_eq!(verify(&ed25519, V1A), Ok(()));
    // Others are ignored, as during a rotation and for later versions.
    for signatures in [format!("v1,AAAA {V1}"), format!("{V1A} {V1}"), format!("v2,x y {V1}")] {
        assert_eq!(verify(&hmac, &signatures), Ok(()), "{signatures}");
    }
    let both = Verifier::new(OTHER_SECRET).unwrap().or(SECRET_KEY).unwrap();
    assert_eq!(verify(&both, V1), Ok(()));
    assert_eq!(format!("{both:?}"), "Verifier(2 keys, 300s)");
}

#[test]
fn a_signature_by_another_key_or_of_another_version_is_wrong() {
    let hmac = Verifier::new(SECRET_KEY).unwrap();
    let forged = V1.replacen('g', "h", 1);
    for signature in ["", "v1", "v1,", "v1,!", &forged, V1A, &V1.replace("v1,", "v1a,")] {
        assert_eq!(verify(&hmac, signature), Err(Forged::Signature), "{signature}");
    }
    assert_eq!(verify(&Verifier::new(OTHER_SECRET).unwrap(), V1), Err(Forged::Signature));
    let ed25519 = Verifier::new(&public_key()).unwrap();
    for signature in [V1, &V1A.replacen('t', "u", 1), &V1A.replace("v1a,", "v1,")] {
        assert_eq!(verify(&ed25519, signature), Err(Forged::Signature), "{signature}");
    }
}

#[test]
fn each_part_is_signed_and_the_time_is_near() {
    let verifier = Verifier::new(SECRET_KEY).unwrap();
    let (id, timestamp, body) = REFERENCE;
    let sent: i64 = timestamp.parse().unwrap();
    let check = |id, timestamp, body: &str, now| {
        verifier.verify(&headers(id, timestamp, V1), body.as_bytes(), at(now))
    };
    assert_eq!(check(id, timestamp, body, sent), Ok(()));
    assert_eq!(check("msg_other", timestamp, body, sent), Err(Forged::Signature));
    assert_eq!(check(id, "1614265331", body, sent), Err(Forged::Signature));
    assert_eq!(check(id, timestamp, "{\"test\": 2432232315}", sent), Err(Forged::Signature));
    for now in [sent - 300, sent + 300] {
        assert_eq!(check(id, timestamp, body, now), Ok(()));
    }
    for now in [sent - 301, sent + 301] {
        assert_eq!(check(id, timestamp, body, now), Err(Forged::Time(TOLERANCE)));
    }
    for timestamp in ["", "now", "9223372036854775808", "1614265330.0"] {
        assert_eq!(check(id, timestamp, body, sent), Err(Forged::Header(TIMESTAMP)), "{timestamp}");
    }
}

#[test]
fn a_missing_or_repeated_header_is_refused() {
    let verifier = Verifier::new(SECRET_KEY).unwrap();
    let (id, timestamp, body) = REFERENCE;
    let now = at(timestamp.parse().unwrap());
    for name in [ID, TIMESTAMP, SIGNATURE] {
        let mut missing = headers(id, timestamp, V1);
        let value = missing.remove(name).unwrap();
        assert_eq!(verifier.verify(&missing, body.as_bytes(), now), Err(Forged::Header(name)));
        let mut repeated = headers(id, timestamp, V1);
        repeated.append(name, value);
        assert_eq!(verifier.verify(&repeated, body.as_bytes(), now), Err(Forged::Header(name)));
    }
}

#[test]
fn a_text_of_another_form_is_no_key() {
    let short = format!("whsec_{}", STANDARD.encode([1; 23]));
    let long = format!("whsec_{}", STANDARD.encode([1; 65]));
    let seed = format!("whpk_{}", STANDARD.encode([1; 31]));
    for key in
        ["", "whsec_", "whsec_!", "whpk_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &short, &long, &seed]
    {
        assert!(matches!(Verifier::new(key), Err(InvalidKey)), "{key}");
    }
}

#[test]
fn an_event_has_the_id_of_its_header() {
    let body = br#"{"accountId":"01a20008-a367-77bd-a6bf-eaa3667171b3","accountSeq":null,
        "data":{"accountId":"01a20008-a367-77bd-a6bf-eaa3667171b3","createdAt":
        "2026-11-21T21:34:55.848209Z","currency":"KRW","metadata":{},"ownerId":"ann",
        "reference":"customer 17"},"id":"UH6oSSXq","sequence":1,
        "timestamp":"2026-11-21T21:34:55.848209Z","type":"account.created"}"#;
    let verifier = Verifier::new(SECRET_KEY).unwrap();
    let key = STANDARD.decode(SECRET_KEY.strip_prefix("whsec_").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let now = OffsetDateTime::now_utc().unix_timestamp().to_string();
    let event = |id: &str, body: &[u8]| {
        let signed = [id.as_bytes(), b".", now.as_bytes(), b".", body].concat();
        let signature = format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)));
        verifier.event(&headers(id, &now, &signature), body)
    };
    let right = event("UH6oSSXq", body).unwrap();
    assert_eq!(right.opened_account().unwrap().owner_id, "ann");
    assert_eq!(right.record(), None);
    assert_eq!(event("other", body), Err(Forged::Header(ID).into()));
    assert!(matches!(event("UH6oSSXq", b"{}"), Err(WebhookError::Body(_))));
}
