# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The quiz
#
# ## Question
#
# Which of all this would you still get right in a month? Sixteen questions, two of each objective, thirteen right pass. The wrong answers are not nonsense: each is a slip that people make, such as another count of N, a forgotten factor, or the brief's own arithmetic. Most numbers are drawn, and their answers are computed by the same library that you used.
#
# Allow 45 minutes, paper and the notebooks at hand. It may be taken again, with other questions and other numbers: once graded, the answers of a seed are known, so of each seed only the first attempt counts.

# %%
from x1lib import check, quiz
from x1lib.launch.places import LAB, project_root
from x1lib.quiz.widget import Quiz

# %% tags=["nbval-check-output"]
for name, questions in quiz.objectives().items():
    print(f"{name:<11} {len(questions)} questions, from {questions[0].notebook}")

# %% [markdown]
# 🇪🇸 Dieciséis preguntas, dos por cada objetivo; se aprueba con trece. Las respuestas falsas no son disparates, sino errores que cualquiera comete: contar otros parámetros, olvidar un factor o fiarse de un enunciado. Puedes repetirlo: cambian las preguntas y también los números. De cada semilla solo cuenta el primer intento, porque después ya se conocen las respuestas.

# %% [markdown]
# ## Take it
#
# Choose, then press *Grade*: every question is explained, with the section to read, and the attempt is added to the record. Where no kernel runs, or in a terminal, `python -m x1lib.quiz` asks the same.

# %%
Quiz()

# %% [markdown]
# 🇪🇸 Elige y pulsa *Grade*: cada pregunta se explica y remite a su apartado. En una terminal, `python -m x1lib.quiz` hace lo mismo.

# %% [markdown]
# ## What is recorded
#
# `quiz-score.json` holds the seed, your letters and a hash of what was asked, so that anyone can grade it again: `python -m x1lib.quiz --regrade FILE`. A score that its answers do not earn is found; a record that cannot be graded again stops the quiz before it asks anything, until you move the file away. A rehearsal by machine (`--rehearse`) is marked as one and passes nothing.

# %%
print("quiz:", quiz.status(project_root() / LAB / quiz.SCORES))
_ = check.progress(lambda line: print("exercises:", line))

# %% [markdown]
# ## What comes next
#
# `python -m x1lib.done` looks at everything that the course asks for, box by box: it loads your checkpoint and measures its loss again, fits your points again, reads the post-mortem beside its evidence, grades the quiz again and works out the price of a token. Then four questions are left, in `reflections.md`, that no machine can answer for you.
#
# 🇪🇸 `python -m x1lib.done` repasa todo lo que pide el curso comprobándolo de nuevo, no mirando si existe. Al final quedan cuatro preguntas que ninguna máquina puede responder por ti.
