"""The chest phantom: anatomy, vessels, disease, scanner and reader as pure functions."""
