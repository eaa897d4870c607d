"""Human languages: texts by language, writing systems, grapheme clusters. Pure."""
