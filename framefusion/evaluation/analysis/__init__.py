"""How similar the tokens of neighbouring frames are, layer by layer: the two observations FrameFusion rests on.

from framefusion.evaluation.analysis.similarity import analyze

found = analyze(model, (processor_outputs_of(video) for video in videos))
found.median, found.rank_correlation, found.recommended
"""
