//! The `Authorization` header that carries a token. Both transports read it here.

/// The token in the value of an `Authorization` header: `Bearer`, one space or more, and a `b64token` (RFC 6750, 2.1). The
/// case of the scheme does not matter (RFC 9110, 11.1). `None` for anything else.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.split_once(' ')?;
    let token = rest.trim_matches(' ');
    let characters = token.trim_end_matches('=');
    let is_b64token = !characters.is_empty()
        && characters.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~+/".contains(&c));
    (scheme.eq_ignore_ascii_case("bearer") && is_b64token).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case_and_the_token_as_it_is() {
        for (given, token) in [
            ("Bearer abc", "abc"),
            ("bearer abc", "abc"),
            ("BEARER abc", "abc"),
            ("bEaReR    abc ", "abc"),
            ("Bearer mF_9.B5f-4.1JqM", "mF_9.B5f-4.1JqM"),
            ("Bearer a~+/9==", "a~+/9=="),
        ] {
            assert_eq!(bearer(given), Some(token), "{given}");
        }
    }

    #[test]
    fn what_is_no_bearer_token_is_none() {
        for given in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer   ",
            "abc",
            "Basic abc",
            "Bearerabc",
            "Bearer\tabc",
            "Bearer a b",
            "Bearer a,b",
            "Bearer \"abc\"",
            "Bearer a=b",
            "Bearer ==",
            "Bearer \u{e4}",
            " Bearer abc",
        ] {
            assert_eq!(bearer(given), None, "{given:?}");
        }
    }
}
