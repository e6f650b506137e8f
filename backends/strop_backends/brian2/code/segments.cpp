{# Deliver the spikes of this step. Each of Brian2's synapses is a run of synapses here: `length` of them, with the
   weights from `start` on, to the target of the first and those behind it. All targets of a run are different. #}
{# USES_VARIABLES { v_post, start, length, _synaptic_post } #}
{% extends 'common_synapses.cpp' %}

{% block extra_headers %}
{{ super() }}
#include <vector>
static std::vector<double> strop_weights()
{
    std::ifstream file("static_arrays/strop_w", std::ios::binary | std::ios::ate);
    std::vector<double> values(file ? (size_t) file.tellg() / sizeof(double) : 0);
    file.seekg(0);
    file.read((char *) values.data(), values.size() * sizeof(double));
    if (!file) {
        std::cerr << "cannot read static_arrays/strop_w" << std::endl;
        exit(1);
    }
    return values;
}
{% endblock %}

{% block maincode %}
    static const std::vector<double> weights = strop_weights();
    const std::vector<int> &due = *{{pathway.name}}.peek();
    for (size_t k = 0; k < due.size(); k++) {
        const double *__restrict weight = weights.data() + {{start}}[due[k]];
        double *__restrict target = {{v_post}} + {{_synaptic_post}}[due[k]];
        const int count = {{length}}[due[k]];
        for (int i = 0; i < count; i++) target[i] += weight[i];
    }
{% endblock %}

{% block extra_functions_cpp %}
void _debugmsg_{{codeobj_name}}() {}
{% endblock %}

{% block extra_functions_h %}
void _debugmsg_{{codeobj_name}}();
{% endblock %}

{% macro main_finalise() -%}
{% endmacro %}
