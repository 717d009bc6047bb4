//! From each domain's refusal to a [`Problem`]. Every match is exhaustive: a new way to refuse does not compile until it
//! has a code.

use super::{Code, Problem};
use crate::alerts::AlertError;
use crate::error::{Fault, StoreError};
use crate::geo::ShapeFault;
use crate::identity::IdentityError;
use crate::push::PushError;
use crate::refusal::FieldFault;
use crate::tracking::TrackingError;
use crate::trust::TrustError;
use crate::usecases::Refusal;

impl From<FieldFault> for Problem {
    fn from(fault: FieldFault) -> Self {
        Self::invalid_fields(vec![fault])
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        match error.kind() {
            Fault::Busy | Fault::Conflict | Fault::Timeout | Fault::Gone => {
                Self::unavailable("this cannot be done now; try again")
            }
            Fault::Corrupt => Self::internal(),
        }
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Invalid(fault) => fault.into(),
            IdentityError::Unauthenticated(why) => Self::new(Code::Unauthenticated, why),
            IdentityError::Forbidden(why) => Self::new(Code::Forbidden, why),
            IdentityError::StepUpRequired => Self::new(Code::StepUpRequired, error.to_string()),
            IdentityError::PinRequired => Self::new(Code::PinRequired, error.to_string()),
            IdentityError::PinWrong => Self::new(Code::PinWrong, error.to_string()),
            IdentityError::TooManyTries(wait) | IdentityError::Busy(wait) => {
                Self { retry_after: Some(wait), ..Self::new(Code::RateLimited, error.to_string()) }
            }
            IdentityError::NotFound(_) => Self::not_found(),
            IdentityError::Conflict(why) => Self::new(Code::Conflict, why),
            IdentityError::Store(source) => source.into(),
            IdentityError::Internal(source) => {
                tracing::error!(%source, "identity failed");
                Self::internal()
            }
        }
    }
}

impl From<TrustError> for Problem {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Invalid(fault) => fault.into(),
            TrustError::NotFound(_) => Self::not_found(),
            TrustError::Conflict(why) => Self::new(Code::Conflict, why),
            TrustError::NoContact => Self::new(Code::NotFound, "nobody has this handle"),
            TrustError::NotAvailable => Self::not_available(),
            TrustError::Store(source) => source.into(),
        }
    }
}

impl From<TrackingError> for Problem {
    fn from(error: TrackingError) -> Self {
        match error {
            TrackingError::Invalid(fault) => fault.into(),
            TrackingError::BrokenShape(faults) => {
                Self::invalid_fields(faults.into_iter().map(of_shape).collect())
            }
            TrackingError::NotFound(_) => Self::not_found(),
            TrackingError::Conflict(why) => Self::new(Code::Conflict, why),
            TrackingError::Busy => Self::unavailable("fixes cannot be stored now; try again"),
            TrackingError::Store(source) => source.into(),
        }
    }
}

impl From<AlertError> for Problem {
    fn from(error: AlertError) -> Self {
        match error {
            AlertError::Invalid(fault) => fault.into(),
            AlertError::NotFound(_) => Self::not_found(),
            AlertError::Conflict(why) => Self::new(Code::Conflict, why),
            AlertError::Store(source) => source.into(),
        }
    }
}

impl From<PushError> for Problem {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Invalid(fault) => fault.into(),
            PushError::NotFound(_) => Self::not_found(),
            PushError::Conflict(why) => Self::new(Code::Conflict, why),
            PushError::Store(source) => source.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Identity(error) => error.into(),
            Refusal::Trust(error) => error.into(),
            Refusal::Tracking(error) => error.into(),
            Refusal::Alerts(error) => error.into(),
            Refusal::Push(error) => error.into(),
            Refusal::Store(error) => error.into(),
        }
    }
}

fn of_shape(fault: ShapeFault) -> FieldFault {
    FieldFault { code: Some(fault.code), ..FieldFault::new(format!("shape.{}", fault.place), fault.detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_failure_is_not_shown() {
        let secret = || "postgres://cima:hunter2@db".to_owned();
        let failures: [Problem; 3] = [
            StoreError::new(Fault::Gone, secret()).into(),
            TrackingError::Store(StoreError::new(Fault::Corrupt, secret())).into(),
            IdentityError::Internal(secret()).into(),
        ];
        for failure in failures {
            assert!(matches!(failure.code(), Code::Internal | Code::Unavailable));
            assert!(failure.errors().is_empty() && !failure.detail().contains("hunter2"), "{failure:?}");
        }
    }
}
