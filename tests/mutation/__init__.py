"""Mutation testing of the core: each mutant is one small change that a unit test must notice."""
