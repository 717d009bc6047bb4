//! The texts that a provider sees: the same for everybody, in a few languages.

use super::Matter;

/// A language's title and body for an emergency, its updates, a fence, a link, a check-in, a zone, and anything else.
type Texts = [(&'static str, &'static str); 7];

const LANGUAGES: [(&str, Texts); 5] = [
    (
        "en",
        [
            ("Someone needs your help", "Open the app to see who and where."),
            ("News of an emergency", "Open the app to see what has changed."),
            ("News of someone you look after", "Open the app to see more."),
            ("News of your trusted contacts", "Open the app to see more."),
            ("Are you safe?", "Your check-in is due. Complete it, or your contacts are told."),
            ("Take care where you are", "Open the app to see more."),
            ("Something is waiting for you", "Open the app to see more."),
        ],
    ),
    (
        "de",
        [
            ("Jemand braucht deine Hilfe", "Öffne die App und sieh, wer und wo."),
            ("Neues zu einem Notfall", "Öffne die App und sieh, was sich geändert hat."),
            ("Neues von jemandem, auf den du achtest", "Öffne die App für mehr."),
            ("Neues von deinen Vertrauten", "Öffne die App für mehr."),
            (
                "Bist du sicher?",
                "Deine Rückmeldung ist fällig. Gib sie, sonst werden deine Vertrauten verständigt.",
            ),
            ("Achte auf deine Umgebung", "Öffne die App für mehr."),
            ("Etwas wartet auf dich", "Öffne die App für mehr."),
        ],
    ),
    (
        "fr",
        [
            ("Quelqu'un a besoin de votre aide", "Ouvrez l'application pour voir qui et où."),
            ("Du nouveau dans une urgence", "Ouvrez l'application pour voir ce qui a changé."),
            ("Des nouvelles d'un proche", "Ouvrez l'application pour en savoir plus."),
            ("Des nouvelles de vos contacts de confiance", "Ouvrez l'application pour en savoir plus."),
            (
                "Êtes-vous en sécurité ?",
                "Votre confirmation est attendue. Sans elle, vos contacts seront prévenus.",
            ),
            ("Faites attention où vous êtes", "Ouvrez l'application pour en savoir plus."),
            ("Quelque chose vous attend", "Ouvrez l'application pour en savoir plus."),
        ],
    ),
    (
        "es",
        [
            ("Alguien necesita tu ayuda", "Abre la aplicación para ver quién y dónde."),
            ("Novedades de una emergencia", "Abre la aplicación para ver qué ha cambiado."),
            ("Novedades de alguien a quien cuidas", "Abre la aplicación para ver más."),
            ("Novedades de tus contactos de confianza", "Abre la aplicación para ver más."),
            ("¿Estás a salvo?", "Toca confirmar que estás bien. Si no lo haces, se avisará a tus contactos."),
            ("Atención al lugar donde estás", "Abre la aplicación para ver más."),
            ("Algo te espera", "Abre la aplicación para ver más."),
        ],
    ),
    (
        "it",
        [
            ("Qualcuno ha bisogno del tuo aiuto", "Apri l'app per vedere chi e dove."),
            ("Novità su un'emergenza", "Apri l'app per vedere che cosa è cambiato."),
            ("Novità su una persona che ti sta a cuore", "Apri l'app per saperne di più."),
            ("Novità sui tuoi contatti fidati", "Apri l'app per saperne di più."),
            ("Sei al sicuro?", "È ora di confermare. Se non lo fai, i tuoi contatti saranno avvisati."),
            ("Attenzione al luogo in cui ti trovi", "Apri l'app per saperne di più."),
            ("Qualcosa ti aspetta", "Apri l'app per saperne di più."),
        ],
    ),
];

/// The title and body for a person with this locale; English for a language that is not here.
pub(super) fn texts(matter: Matter, locale: &str) -> (&'static str, &'static str) {
    let language = locale.split(['-', '_']).next().unwrap_or_default();
    let known = LANGUAGES.iter().find(|(tag, _)| tag.eq_ignore_ascii_case(language));
    let place = match matter {
        Matter::Emergency => 0,
        Matter::EmergencyUpdate => 1,
        Matter::Geofence => 2,
        Matter::Link => 3,
        Matter::CheckIn => 4,
        Matter::Zone => 5,
        Matter::Other => 6,
    };
    known.unwrap_or(&LANGUAGES[0]).1[place]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_chooses_its_language_and_english_stands_in() {
        assert_eq!(texts(Matter::Emergency, "de-AT").0, "Jemand braucht deine Hilfe");
        assert_eq!(texts(Matter::Emergency, "tlh"), texts(Matter::Emergency, "en"));
        assert_eq!(texts(Matter::Zone, "it").0, "Attenzione al luogo in cui ti trovi");
        assert_eq!(texts(Matter::Other, "es").0, "Algo te espera");
        assert_eq!(texts(Matter::CheckIn, "FR").0, "Êtes-vous en sécurité ?");
    }
}
