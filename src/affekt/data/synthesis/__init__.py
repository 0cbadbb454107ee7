"""A small source-filter voice: speakers, what they feel, how they then say a sentence, and the sound of it.

`phones` holds the sounds, `speakers` who speaks and how emotion changes the voice, `prosody` turns a sentence into
control tracks, `voice` turns tracks into samples, and `utterance` does all of it. The corpus made with it is
:mod:`affekt.data.corpora.synthetic`.
"""
