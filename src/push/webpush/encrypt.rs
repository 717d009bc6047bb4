//! Message encryption for Web Push: RFC 8291 over the `aes128gcm` coding of RFC 8188, in one record.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::{hkdf, rand};

/// The size that is named in the header; what we send is shorter.
const RECORD: u32 = 4_096;
/// Every message is made as long as this, so that its length says nothing of what it is about.
const PADDED: usize = 512;
const SALT: usize = 16;

struct Bytes(usize);

impl hkdf::KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand of so many bytes.
fn expand<const N: usize>(prk: &hkdf::Prk, info: &[&[u8]]) -> Option<[u8; N]> {
    let mut out = [0; N];
    prk.expand(info, Bytes(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

/// A message for the browser with this public key (65 bytes) and secret (16 bytes), under a key of its own.
pub(super) fn for_browser(plain: &[u8], browser: &[u8], auth: &[u8]) -> Option<Vec<u8>> {
    let own = PrivateKey::generate(&ECDH_P256).ok()?;
    let mut salt = [0; SALT];
    rand::fill(&mut salt).ok()?;
    encrypt(plain, PADDED.saturating_sub(plain.len()), browser, auth, &own, salt)
}

/// The body of a message: the header of RFC 8188 and one sealed record, with so many bytes of padding. `None` if the
/// browser's keys are none, or the message is too long for a record.
pub fn encrypt(
    plain: &[u8],
    padding: usize,
    browser: &[u8],
    auth: &[u8],
    own: &PrivateKey,
    salt: [u8; SALT],
) -> Option<Vec<u8>> {
    if auth.len() != 16 || plain.len() + padding + 17 > RECORD as usize {
        return None;
    }
    let own_public = own.compute_public_key().ok()?;
    let own_public = own_public.as_ref();
    // RFC 8291, 3.4: the shared secret is bound to both keys and to what only the browser and we know.
    let shared = |secret: &[u8]| {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, auth).extract(secret);
        expand::<32>(&prk, &[b"WebPush: info\0", browser, own_public]).ok_or(aws_lc_rs::error::Unspecified)
    };
    let peer = UnparsedPublicKey::new(&ECDH_P256, browser);
    let keying = agree(own, peer, aws_lc_rs::error::Unspecified, shared).ok()?;
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt).extract(&keying);
    let key = expand::<16>(&prk, &[b"Content-Encoding: aes128gcm\0"])?;
    let nonce = expand::<12>(&prk, &[b"Content-Encoding: nonce\0"])?;

    let mut record = plain.to_vec();
    // The last record ends with a 2 and zeros.
    record.push(2);
    record.resize(record.len() + padding, 0);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record).ok()?;

    let mut body = Vec::with_capacity(SALT + 5 + own_public.len() + record.len());
    body.extend_from_slice(&salt);
    body.extend_from_slice(&RECORD.to_be_bytes());
    body.push(u8::try_from(own_public.len()).ok()?);
    body.extend_from_slice(own_public);
    body.extend_from_slice(&record);
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    /// RFC 8291, section 5 and appendix A.
    #[test]
    fn the_example_of_the_rfc_comes_out_byte_for_byte() {
        let browser =
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let auth = decode("BTBZMqHH6r4Tts7J_aSIgg").unwrap();
        let own = decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw").unwrap();
        let own = PrivateKey::from_private_key(&ECDH_P256, &own).unwrap();
        let salt = decode("DGv6ra1nlYgDCS1FRnbzlw").unwrap().try_into().unwrap();
        let plain = b"When I grow up, I want to be a watermelon";
        let body = encrypt(plain, 0, &decode(browser).unwrap(), &auth, &own, salt).unwrap();
        let expected = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz\
            AC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(body, decode(expected).unwrap());
    }

    #[test]
    fn messages_are_of_one_length_and_bad_keys_make_none() {
        let browser = PrivateKey::generate(&ECDH_P256).unwrap();
        let public = browser.compute_public_key().unwrap();
        let length = |plain: &[u8]| for_browser(plain, public.as_ref(), &[7; 16]).unwrap().len();
        assert_eq!(length(b"a"), length(&[b'b'; 300]));
        assert!(for_browser(b"a", &[4; 65], &[7; 16]).is_none(), "not a point of the curve");
        assert!(for_browser(b"a", public.as_ref(), &[7; 15]).is_none());
        assert!(for_browser(&[0; 4_096], public.as_ref(), &[7; 16]).is_none());
    }
}
