//! Endpoints, and what is handed to their providers.
