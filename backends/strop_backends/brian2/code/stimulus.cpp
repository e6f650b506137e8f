{# Add the stimulus of this step to the potentials: values `strop_ends[step]` to `strop_ends[step + 1] - 1`. #}
{# USES_VARIABLES { v } #}
{% extends 'common_group.cpp' %}

{% block extra_headers %}
#include <vector>
template <typename T> static std::vector<T> strop_file(const char *name)
{
    std::ifstream file(name, std::ios::binary | std::ios::ate);
    std::vector<T> values(file ? (size_t) file.tellg() / sizeof(T) : 0);
    file.seekg(0);
    file.read((char *) values.data(), values.size() * sizeof(T));
    if (!file) {
        std::cerr << "cannot read " << name << std::endl;
        exit(1);
    }
    return values;
}
{% endblock %}

{% block maincode %}
    static const std::vector<int64_t> ends = strop_file<int64_t>("static_arrays/strop_ends");
    static const std::vector<int32_t> place = strop_file<int32_t>("static_arrays/strop_places");
    static const std::vector<double> value = strop_file<double>("static_arrays/strop_values");
    static size_t step = 0;
    for (int64_t i = ends[step]; i < ends[step + 1]; i++)
        {{v}}[place[i]] += value[i];
    step++;
{% endblock %}
