"""A judged evaluation: players answer the same questions, a judge compares their answers, and they are rated.

``answers`` -> ``judges``, ``model_judge`` -> ``matches`` (the journal) -> ``ratings``, ``length_control`` ->
``report``, all put together by ``hold`` and the command ``dialog-gym tournament``. It is SACPO's evaluation (Wachi et
al. 2024, arXiv:2404.11049) with what that lacks: seeds, intervals, length control, any judge, and failures that are no
ties.
"""
