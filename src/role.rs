//! What a node does. One process does everything; of many nodes each may do a part, so that each part is scaled by what
//! it costs.
//!
//! | role | answers | and does |
//! |---|---|---|
//! | `api` | `/v1/...` but the stream and fixes | |
//! | `tracking` | `/v1/stream`, `/v1/locations`, `/v1/emergencies/...` | evaluates fences, wakes its sockets |
//! | `alerts` | | fires countdowns, expiry and check-ins; deletes what has had its time |
//! | `push` | | hands deliveries to the providers |
//! | every node | `/livez`, `/readyz`, `/metrics`, `/.well-known/jwks.json`, the documents | records what it accepts |
//!
//! **An emergency depends on no role.** Both roles that phones speak to accept one: a phone raises where it is connected.
//! Whoever accepts it stores it with its alerts and pushes in one transaction. A hint on the bus wakes the nodes that fire
//! its timers and push it, and they poll the store anyway. Every node needs the store to be ready, and nothing else.
//!
//! A path that another role answers is refused with 421 and the name of that role. It means that the router in front of
//! the nodes is not set up as `k8s/base/ingress.yaml` is.

use std::fmt;
use std::str::FromStr;

/// A part of what there is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// REST.
    Api,
    /// The stream, fixes and fences.
    Tracking,
    /// Timers and retention.
    Alerts,
    /// The workers of providers.
    Push,
}

impl Role {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Api, Self::Tracking, Self::Alerts, Self::Push];

    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Tracking => "tracking",
            Self::Alerts => "alerts",
            Self::Push => "push",
        }
    }
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The roles of a node; never none. Written as words with commas, or as `all`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles(u8);

/// A list of roles that means nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRoles {
    /// There is none in it.
    #[error("name at least one of api, tracking, alerts, push, or all of them with `all`")]
    None,
    /// One is unknown.
    #[error("`{0}` is no role; there are api, tracking, alerts and push, and `all` for all of them")]
    Unknown(String),
}

impl FromStr for Roles {
    type Err = BadRoles;

    fn from_str(text: &str) -> Result<Self, BadRoles> {
        let mut roles = 0;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            roles |= match Role::ALL.into_iter().find(|role| role.word() == word) {
                Some(role) => role.bit(),
                None if word == "all" => Self::ALL.0,
                None => return Err(BadRoles::Unknown(word.to_owned())),
            };
        }
        if roles == 0 { Err(BadRoles::None) } else { Ok(Self(roles)) }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all");
        }
        let words: Vec<&str> = self.iter().map(Role::word).collect();
        f.write_str(&words.join(","))
    }
}

impl Roles {
    /// Everything in one process.
    pub const ALL: Self =
        Self(Role::Api.bit() | Role::Tracking.bit() | Role::Alerts.bit() | Role::Push.bit());
    const API: Self = Self(Role::Api.bit());
    const TRACKING: Self = Self(Role::Tracking.bit());
    const API_AND_TRACKING: Self = Self(Role::Api.bit() | Role::Tracking.bit());

    /// Whether it is one of them.
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }
    /// Those there are.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
    /// Whether people and their phones connect to the node.
    pub const fn serves_people(self) -> bool {
        self.0 & Self::API_AND_TRACKING.0 != 0
    }

    /// The roles that answer a path: any of them does.
    fn answering(path: &str) -> Self {
        match path {
            "/v1/stream" | "/v1/locations" => Self::TRACKING,
            _ if path == "/v1/emergencies" || path.starts_with("/v1/emergencies/") => Self::API_AND_TRACKING,
            _ if path.starts_with("/v1/") => Self::API,
            _ => Self::ALL,
        }
    }
    /// The role to ask instead, if none of these answers the path.
    pub fn misdirected(self, path: &str) -> Option<Role> {
        let answering = Self::answering(path);
        if self.0 & answering.0 == 0 { answering.iter().next() } else { None }
    }

    /// Why a node with these roles cannot be one of many; the sentence to act on.
    pub fn refusal(self, has_database: bool, has_redis: bool) -> Option<String> {
        let missing = match (has_database, has_redis) {
            _ if self == Self::ALL => return None,
            (true, true) => return None,
            (true, false) => "--redis-url",
            (false, true) => "--database-url",
            (false, false) => "--database-url and --redis-url",
        };
        Some(format!(
            "--role {self} is a part of what there is to do: the other nodes do the rest over what they share. Give all of \
             them the same {missing}, or run everything in one process with --role all"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(text: &str) -> Roles {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_is_read_in_any_order_and_written_in_one() {
        assert_eq!(roles("push, api").to_string(), "api,push");
        assert_eq!(roles("api,api").to_string(), "api");
        assert_eq!(roles("all").to_string(), "all");
        assert_eq!(roles("api,tracking,alerts,push"), Roles::ALL);
        assert_eq!(Roles::ALL.iter().collect::<Vec<_>>(), Role::ALL, "all of them are all");
        assert_eq!("".parse::<Roles>(), Err(BadRoles::None));
        assert_eq!(" , ".parse::<Roles>(), Err(BadRoles::None));
        assert_eq!("api,Push".parse::<Roles>(), Err(BadRoles::Unknown("Push".into())));
    }

    #[test]
    fn a_path_of_another_role_is_told_and_no_other() {
        let asked = |text: &str, path: &str| roles(text).misdirected(path).map(Role::word);
        assert_eq!(asked("api", "/v1/stream"), Some("tracking"));
        assert_eq!(asked("api,push", "/v1/locations"), Some("tracking"));
        assert_eq!(asked("tracking", "/v1/geofences"), Some("api"));
        assert_eq!(asked("alerts,push", "/v1/emergencies"), Some("api"));
        assert_eq!(asked("tracking", "/v1/emergencies/7/resolve"), None);
        assert_eq!(asked("tracking", "/v1/emergenciesx"), Some("api"));
        assert_eq!(
            asked("api", "/v1/locations/"),
            None,
            "no path of tracking's; api says that there is none"
        );
        for path in ["/livez", "/readyz", "/metrics", "/.well-known/jwks.json", "/openapi.json", "/nowhere"] {
            assert_eq!(asked("push", path), None, "{path}");
        }
        for path in ["/v1/stream", "/v1/locations", "/v1/emergencies", "/v1/me"] {
            assert_eq!(asked("all", path), None, "{path}");
        }
    }

    #[test]
    fn a_part_needs_what_the_parts_share() {
        assert_eq!(Roles::ALL.refusal(false, false), None);
        assert_eq!(roles("api").refusal(true, true), None);
        for (database, redis, named) in [
            (false, false, "the same --database-url and --redis-url"),
            (true, false, "the same --redis-url"),
            (false, true, "the same --database-url"),
        ] {
            let refusal = roles("api,alerts").refusal(database, redis).unwrap();
            assert!(refusal.starts_with("--role api,alerts ") && refusal.contains(named), "{refusal}");
        }
    }
}
