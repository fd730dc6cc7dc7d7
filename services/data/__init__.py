"""`lessrl data`: what a source holds, what a run would leave out, whether answers can be judged and hints be made."""
