//! Push: what is stored for a person is also handed to the providers that reach their devices.
//!
//! A delivery is a row, made with the alert; [`Gateway`] claims it with a lease, hands it to a [`Provider`] and writes
//! down what became of it. So a notification reaches its provider at least once, and always under the same collapse id.
//! The two urgencies have workers, clients and limits of their own. A [`Notification`] is an opaque id and a generic
//! text: no position, no name, no handle ever leaves this way. [`Push`] is the service behind registering endpoints.

mod apns;
mod dev;
mod email;
mod endpoint;
mod fcm;
mod gates;
mod gateway;
mod guard;
mod keeper;
mod notification;
mod outbound;
mod provider;
mod refusal;
mod schedule;
mod service;
mod settings;
mod store;
mod text;
mod webhook;
mod webpush;
mod worker;

pub use apns::{Apns, ApnsSettings};
pub use dev::Dev;
pub use email::{Email, EmailSettings};
pub use endpoint::{Channel, Endpoint, Previous, Target};
pub use fcm::{Fcm, FcmSettings};
pub use gateway::Gateway;
pub use guard::Guard;
pub use notification::{Matter, Notification, Urgency};
pub use outbound::{Authorities, Outbound};
pub use provider::{Provider, SendOutcome};
pub use refusal::PushError;
pub use schedule::{deadline, first_due};
pub use service::{EndpointIn, EndpointView, Push, SubscriptionKeys};
pub use settings::{Providers, PushSettings};
pub use store::{ClaimKey, Claimed, PushStore, Queue, Settled, Settlement};
pub use webhook::{Webhook, signatures};
pub use webpush::{WebPush, WebPushSettings, encrypt};
