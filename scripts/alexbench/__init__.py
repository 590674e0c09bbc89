"""The workflow's library: variants, data, recipe, training loop, backends, results. Only `workflow` knows of Snakemake."""

import os

# A notebook may export a matplotlib backend that is not installed here, and importing matplotlib would fail. Rules inherit this value from
# the Snakefile.
os.environ["MPLBACKEND"] = "Agg"
# The user's environment may select another Keras backend.
os.environ["KERAS_BACKEND"] = "tensorflow"
# Keeps Keras from reading the user's keras.json, which may ask for float64 or channels first, and from writing one.
os.environ["KERAS_HOME"] = os.devnull
