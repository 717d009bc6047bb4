//! Links, with what proves the person and who is told.

use super::Refusal;
use crate::id::LinkId;
use crate::identity::Caller;
use crate::services::Services;
use crate::trust::{LinkIn, LinkPatch, LinkState, TrustLink};

/// Asks a contact to be trusted; `true` if the link is new. Needs step-up if it grants a position, and is announced on all of
/// the subject's devices: whoever holds one phone of theirs cannot let somebody in unseen.
///
/// # Errors
/// When step-up is needed, the link cannot be made, or it could not be announced; then it does not stand.
pub async fn ask(services: &Services, caller: Caller, given: LinkIn) -> Result<(TrustLink, bool), Refusal> {
    if given.scopes.grants_position() {
        services.identity.require_step_up(&caller).await?;
    }
    let (link, new) = services.trust.ask(caller.user, given).await?;
    if new {
        let announced = services.alerts.announce_link(&link, "link.announced", Some("link.asked")).await;
        if let Err(error) = announced {
            // A link that its subject was never told of must not stand. If this fails too it is still pending.
            if let Err(stays) = services.trust.end(link.id, caller.user).await {
                tracing::warn!(error = %stays, link = %link.id, "a link that could not be announced stays pending");
            }
            return Err(error.into());
        }
    }
    Ok((link, new))
}

/// The contact accepts; the subject is told once.
///
/// # Errors
/// When the caller is not asked, or the store failed.
pub async fn accept(services: &Services, caller: Caller, id: LinkId) -> Result<TrustLink, Refusal> {
    let before = services.trust.link(id, caller.user).await?;
    let link = services.trust.accept(id, caller.user).await?;
    if before.state == LinkState::Pending {
        services.alerts.announce_link(&link, "link.accepted", None).await?;
    }
    Ok(link)
}

/// The subject changes what a link allows. Needs step-up if it grants more of a position.
///
/// # Errors
/// When step-up is needed, the link is not the caller's to change, or the store failed.
pub async fn change(
    services: &Services,
    caller: Caller,
    id: LinkId,
    patch: LinkPatch,
) -> Result<TrustLink, Refusal> {
    if let Some(scopes) = patch.scopes
        && services.trust.needs_step_up(id, caller.user, scopes).await?
    {
        services.identity.require_step_up(&caller).await?;
    }
    let link = services.trust.change(id, caller.user, patch).await?;
    services.alerts.announce_link(&link, "link.changed", None).await?;
    Ok(link)
}
