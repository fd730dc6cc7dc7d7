"""From a recipe to the working object of each role; house mode and Ray actors both build here."""
