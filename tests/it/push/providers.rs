//! The fakes of each provider, as strict as the real ones, and the keys to them.

use super::fake::{Checked, Fake, Got, Play};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::encoding::{AsBigEndian, AsDer};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use aws_lc_rs::{aead, hkdf, hmac, rand, rsa};
use axum::http::{Method, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cima::clock::Clock;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::Url;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A P-256 key: its PEM, and the verifier of its signatures.
pub(crate) fn p256() -> (String, DecodingKey) {
    let random = rand::SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
    (pem("PRIVATE KEY", der.as_ref()), point(pair.public_key().as_ref()))
}

/// A verifier from an uncompressed point.
fn point(point: &[u8]) -> DecodingKey {
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    DecodingKey::from_ec_components(&x, &y).unwrap()
}

fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_aud = false;
    // Tests stand on days of their own.
    validation.validate_exp = false;
    validation
}

/// FCM with Google's token endpoint.
pub(crate) struct FakeFcm {
    pub(crate) fake: Fake,
    /// The key file for it.
    pub(crate) credentials: String,
    /// Access tokens that it gave.
    pub(crate) granted: Arc<Mutex<HashSet<String>>>,
}

pub(crate) async fn fcm(clock: &Clock) -> FakeFcm {
    let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
    let public = DecodingKey::from_rsa_der(key.public_key().as_ref());
    let granted: Arc<Mutex<HashSet<String>>> = Arc::default();
    let known = Arc::clone(&granted);
    let fake = Fake::start(clock, move |got| match got.path.as_str() {
        "/token" => grant(got, &public, &mut known.lock().unwrap()),
        "/v1/projects/safe-test/messages:send" => take_message(got, &known.lock().unwrap()),
        _ => (404, Value::Null),
    })
    .await;
    let credentials = json!({
        "type": "service_account",
        "project_id": "safe-test",
        "private_key_id": "key-1",
        "private_key": pem("PRIVATE KEY", der.as_ref()),
        "client_email": "push@safe-test.iam.gserviceaccount.com",
        "token_uri": format!("{}/token", fake.url()),
    });
    FakeFcm { fake, credentials: credentials.to_string(), granted }
}

fn grant(got: &Got, key: &DecodingKey, granted: &mut HashSet<String>) -> Checked {
    let form = format!("form:?{}", String::from_utf8_lossy(&got.body));
    let form: HashMap<String, String> = Url::parse(&form).unwrap().query_pairs().into_owned().collect();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if got.header("content-type") != "application/x-www-form-urlencoded"
        || field("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer"
    {
        return (400, json!({"error": "unsupported_grant_type"}));
    }
    let claims = jsonwebtoken::decode::<Value>(field("assertion"), key, &validation(Algorithm::RS256));
    let Ok(claims) = claims else { return (400, json!({"error": "invalid_grant"})) };
    let (header, claims) = (claims.header, claims.claims);
    let hour = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 3_600;
    if header.kid.as_deref() != Some("key-1")
        || !hour
        || claims["iss"] != "push@safe-test.iam.gserviceaccount.com"
        || !claims["aud"].as_str().unwrap().ends_with("/token")
    {
        return (400, json!({"error": "invalid_grant"}));
    }
    // Either lets an account send.
    let sends =
        ["firebase.messaging", "cloud-platform"].map(|s| format!("https://www.googleapis.com/auth/{s}"));
    if !claims["scope"].as_str().unwrap_or_default().split(' ').any(|scope| sends.iter().any(|s| s == scope))
    {
        return (400, json!({"error": "invalid_scope"}));
    }
    let token = format!("ya29.{}", granted.len());
    granted.insert(token.clone());
    (200, json!({"access_token": token, "expires_in": 3_599, "token_type": "Bearer"}))
}

fn take_message(got: &Got, granted: &HashSet<String>) -> Checked {
    let bearer = got.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    if !granted.contains(bearer) {
        let error = json!({"code": 401, "message": "no access token", "status": "UNAUTHENTICATED"});
        return (401, json!({"error": error}));
    }
    let message = &got.json()["message"];
    let android = &message["android"];
    // What may be left out is good if it is.
    let good = |field: &Value, is: &dyn Fn(&str) -> bool| field.is_null() || field.as_str().is_some_and(is);
    let seconds = |ttl: &str| ttl.strip_suffix('s').is_some_and(|n| n.parse::<f64>().is_ok_and(|n| n >= 0.0));
    let data = &message["data"];
    if got.method != Method::POST
        || message["token"].as_str().is_none_or(str::is_empty)
        || !good(&android["priority"], &|word| ["high", "normal"].contains(&word))
        || !good(&android["ttl"], &seconds)
        || !(data.is_null() || data.as_object().is_some_and(|d| d.values().all(Value::is_string)))
    {
        return fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT");
    }
    (200, json!({"name": "projects/safe-test/messages/0:1"}))
}

/// FCM's word for a token that is gone.
pub(crate) fn fcm_unregistered() -> Play {
    let (status, body) = fcm_error(404, "NOT_FOUND", "UNREGISTERED");
    Play::Say(status, None, body)
}

/// FCM's word for too many messages.
pub(crate) fn fcm_quota(retry_after: Option<u64>) -> Play {
    let (status, body) = fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED");
    Play::Say(status, retry_after, body)
}

/// An error of Google's, with FCM's own word in it.
fn fcm_error(status: u16, word: &str, code: &str) -> Checked {
    let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    let details = json!([{"@type": kind, "errorCode": code}]);
    (status, json!({"error": {"code": status, "message": word, "status": word, "details": details}}))
}

/// APNs over TLS and HTTP/2.
pub(crate) struct FakeApns {
    pub(crate) fake: Fake,
    pub(crate) key: String,
    /// The certificate to trust.
    pub(crate) authority: String,
}

impl FakeApns {
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.fake.addr.port())
    }
}

pub(crate) fn apns(clock: &Clock) -> FakeApns {
    // As a node does at its start; the first of a process decides.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let mut tls = tls.with_single_cert(vec![made.cert.der().clone()], private).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let (key, verifier) = p256();
    let at = clock.clone();
    let fake = Fake::start_apns(clock, tls, move |got| take_notification(got, &verifier, at.now().unix_s()));
    FakeApns { fake, key, authority: made.cert.pem() }
}

/// An answer of APNs.
pub(crate) fn apns_says(status: u16, retry_after: Option<u64>, reason: &str) -> Play {
    Play::Say(status, retry_after, json!({"reason": reason}))
}

/// APNs's word for a token that is gone, since when.
pub(crate) fn apns_unregistered(since_ms: i64) -> Play {
    Play::Say(410, None, json!({"reason": "Unregistered", "timestamp": since_ms}))
}

/// Apple, "Sending notification requests to APNs"; all headers but the token's and the topic may be left out.
fn take_notification(got: &Got, key: &DecodingKey, now_s: i64) -> Checked {
    let refuse = |status: u16, reason: &str| (status, json!({"reason": reason}));
    let Some(token) = got.header("authorization").strip_prefix("bearer ") else {
        return refuse(403, "MissingProviderToken");
    };
    let Ok(signed) = jsonwebtoken::decode::<Value>(token, key, &validation(Algorithm::ES256)) else {
        return refuse(403, "InvalidProviderToken");
    };
    if signed.header.kid.as_deref() != Some("KEY1234567") || signed.claims["iss"] != "TEAM123456" {
        return refuse(403, "InvalidProviderToken");
    }
    if signed.claims["iat"].as_i64().is_none_or(|at| now_s.abs_diff(at) > 3_600) {
        return refuse(403, "ExpiredProviderToken");
    }
    let Some(device) = got.path.strip_prefix("/3/device/") else { return refuse(404, "BadPath") };
    if got.version != Version::HTTP_2 || got.method != Method::POST {
        return refuse(405, "MethodNotAllowed");
    }
    let given = |name: &str| Some(got.header(name)).filter(|value| !value.is_empty());
    if given("apns-id").is_some_and(|id| Uuid::parse_str(id).is_err()) {
        return refuse(400, "BadMessageId");
    }
    if given("apns-expiration").is_some_and(|at| at.parse::<u64>().is_err()) {
        return refuse(400, "BadExpirationDate");
    }
    if given("apns-priority").is_some_and(|priority| !["1", "5", "10"].contains(&priority)) {
        return refuse(400, "BadPriority");
    }
    if given("apns-push-type").is_some_and(|kind| !["alert", "background"].contains(&kind)) {
        return refuse(400, "InvalidPushType");
    }
    if got.header("apns-collapse-id").len() > 64 {
        return refuse(400, "BadCollapseId");
    }
    match given("apns-topic") {
        Some("org.example.cima") => {}
        Some(_) => return refuse(400, "BadTopic"),
        None => return refuse(400, "MissingTopic"),
    }
    if device.is_empty() || !device.bytes().all(|b| b.is_ascii_hexdigit()) {
        return refuse(400, "BadDeviceToken");
    }
    if got.body.len() > 4_096 {
        return refuse(413, "PayloadTooLarge");
    }
    // A title and a body, or one text.
    let alert = &got.json()["aps"]["alert"];
    if !alert.is_string() && !alert["title"].is_string() {
        return refuse(400, "PayloadEmpty");
    }
    (200, Value::Null)
}

/// A browser and its push service.
pub(crate) struct Browser {
    key: PrivateKey,
    auth: [u8; 16],
    pub(crate) service: Fake,
}

pub(crate) async fn browser(clock: &Clock) -> Browser {
    let service = Fake::start(clock, take_web_push).await;
    let mut auth = [0; 16];
    rand::fill(&mut auth).unwrap();
    Browser { key: PrivateKey::generate(&ECDH_P256).unwrap(), auth, service }
}

impl Browser {
    fn public(&self) -> Vec<u8> {
        self.key.compute_public_key().unwrap().as_ref().to_vec()
    }
    /// What `PushSubscription.toJSON()` gives.
    pub(crate) fn subscription(&self) -> Value {
        let (p256dh, auth) = (URL_SAFE_NO_PAD.encode(self.public()), URL_SAFE_NO_PAD.encode(self.auth));
        json!({
            "endpoint": format!("{}/push/abc", self.service.url()),
            "expirationTime": null,
            "keys": {"p256dh": p256dh, "auth": auth},
        })
    }
    /// The private key, for those who decrypt elsewhere.
    pub(crate) fn private(&self) -> String {
        let der: aws_lc_rs::encoding::EcPrivateKeyBin<'_> = self.key.as_be_bytes().unwrap();
        URL_SAFE_NO_PAD.encode(der.as_ref())
    }
    /// What a service worker is given (RFC 8291, RFC 8188).
    pub(crate) fn open(&self, body: &[u8]) -> Vec<u8> {
        let (salt, rest) = body.split_at(16);
        assert_eq!(rest[4], 65, "the sender's key");
        let (sender, sealed) = (&rest[5..70], &rest[70..]);
        let info = [b"WebPush: info\0".as_slice(), &self.public(), sender].concat();
        let keying = agree(&self.key, UnparsedPublicKey::new(&ECDH_P256, sender), (), |secret| {
            Ok(derive::<32>(&self.auth, secret, &info))
        });
        let keying = keying.unwrap();
        let key = derive::<16>(salt, &keying, b"Content-Encoding: aes128gcm\0");
        let nonce = derive::<12>(salt, &keying, b"Content-Encoding: nonce\0");
        let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, &key).unwrap());
        let mut sealed = sealed.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let plain = key.open_in_place(nonce, aead::Aad::empty(), &mut sealed).unwrap();
        let end = plain.iter().rposition(|b| *b != 0).unwrap();
        assert_eq!(plain[end], 2, "the last record");
        plain[..end].to_vec()
    }
}

fn derive<const N: usize>(salt: &[u8], secret: &[u8], info: &[u8]) -> [u8; N] {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = [0; N];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    prk.expand(&[info], Length(N)).unwrap().fill(&mut out).unwrap();
    out
}

fn take_web_push(got: &Got) -> Checked {
    let vapid = got.header("authorization").strip_prefix("vapid t=").and_then(|v| v.split_once(",k="));
    let Some((token, key)) = vapid else { return (401, Value::Null) };
    let key = point(&URL_SAFE_NO_PAD.decode(key).unwrap());
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation(Algorithm::ES256));
    let Ok(claims) = claims.map(|c| c.claims) else { return (403, Value::Null) };
    let here = claims["aud"].as_str().is_some_and(|aud| aud.ends_with(got.header("host")));
    let topic = got.header("topic");
    // Characters of base64url, whether or not they decode (RFC 8030, 5.4).
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let good_topic = topic.len() <= 32 && topic.bytes().all(in_alphabet);
    let ends = claims["exp"].is_i64();
    let good = here
        && ends
        && claims["sub"].as_str().is_some_and(|s| s.starts_with("mailto:"))
        && good_topic
        && got.header("ttl").parse::<u64>().is_ok()
        && ["very-low", "low", "normal", "high"].contains(&got.header("urgency"))
        && got.header("content-encoding") == "aes128gcm";
    (if good { 201 } else { 400 }, Value::Null)
}

/// A receiver of webhooks with this secret.
pub(crate) async fn webhook(clock: &Clock, secret: &str) -> Fake {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    Fake::start(clock, move |got| {
        let (id, at) = (got.header("webhook-id"), got.header("webhook-timestamp"));
        let signed = format!("{id}.{at}.{}", String::from_utf8_lossy(&got.body));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let good = got.header("webhook-signature").split(' ').any(|signature| {
            let tag = STANDARD.decode(signature.trim_start_matches("v1,")).unwrap_or_default();
            hmac::verify(&key, signed.as_bytes(), &tag).is_ok()
        });
        (if good { 204 } else { 401 }, Value::Null)
    })
    .await
}
