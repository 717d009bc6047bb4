//! Links and disclosures.
