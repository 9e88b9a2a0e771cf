"""The paper's study of the 25 Gaussians: `python -m alikit.study mixture`.

Which runs (`plan`), side by side in processes (`pool`, `progress`), each one trained and measured in a process of its
own (`job`, `measure`), and what came out: tables (`report`) and the paper's figure (`figure`).
"""
